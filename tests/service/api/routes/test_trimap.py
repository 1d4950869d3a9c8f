"""The trimap variant through the exporter and the service: four channels, one more file."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from service.inference.engine import OnnxEngine
from service.matting.cleanup import settle_ends
from service.settings import Settings
from tests.clips import make_clip
from tests.fakes import FAKE_INFO, FakeEngine
from tests.helpers import assert_problem, decode, encode
from tests.tiny_network import REF_SIZE, export_tiny
from training.evaluation.predictor import make_tensor
from training.loop.validation import append_trimap
from training.network.checkpoint import load_model


class TrimapEngine(FakeEngine):
    """Answers with the trimap it was given: 0 background, 0.5 unknown, 1 foreground."""

    def __init__(self) -> None:
        super().__init__(lambda batch: (batch[:, 3] + 1) / 2)
        self.info = dataclasses.replace(FAKE_INFO, takes_trimap=True)


def draw_trimap(side: int) -> np.ndarray:
    """Return (side, side) uint8: foreground in the middle, unknown around it."""
    trimap = np.zeros((side, side), np.uint8)
    trimap[side // 8 : -side // 8, side // 8 : -side // 8] = 128
    trimap[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    return trimap


def post(client, photo: bytes, trimap: bytes | None):
    files = {"file": photo} if trimap is None else {"file": photo, "trimap_file": trimap}
    # Refined along the photo's edges a drawn trimap would be no test of what the network saw.
    return client.post("/v1/image", files=files, data={"refine": "off"})


@pytest.mark.parametrize("blur", [0, 40])
def test_trimap_reaches_the_network_in_three_values(make_client, portrait_jpeg, blur: int) -> None:
    trimap = draw_trimap(512)
    smeared = np.where(trimap == 0, blur, np.where(trimap == 255, 255 - blur, 128 + blur // 2))
    response = post(
        make_client(TrimapEngine()), portrait_jpeg, encode(smeared.astype(np.uint8), "PNG")
    )
    assert response.status_code == 200, response.text
    alpha = decode(response.content)
    assert (alpha[256, 256], alpha[96, 256], alpha[8, 8]) == (255, 128, 0)


@pytest.mark.slow  # half a minute of export
def test_exported_network_and_service_give_the_matte_of_the_checkpoint(
    make_client, portrait: np.ndarray, tmp_path: Path
) -> None:
    path = export_tiny(tmp_path / "trimap.onnx", in_channels=4)
    engine = OnnxEngine(Settings(model_path=path, device="cpu"))
    client = make_client(engine)
    assert client.get("/v1/models").json()["models"][0]["takes_trimap"] is True
    small = portrait[::4, ::4]
    assert small.shape[:2] == (REF_SIZE, REF_SIZE)
    trimap = draw_trimap(REF_SIZE)
    response = post(client, encode(small, "PNG"), encode(trimap, "PNG"))
    image = torch.from_numpy(make_tensor(small, small.shape[:2]))[None]
    values = torch.from_numpy(np.rint(np.float32(trimap) / 127.5) / 2)[None, None]
    with torch.inference_mode():
        matte = load_model(path.with_suffix(".pt"))(append_trimap(image, values), inference=True)[2]
    difference = np.abs(decode(response.content) / 255 - settle_ends(matte[0, 0].numpy()))
    assert difference.max() < 0.6 / 255 + 1e-3
    other = post(client, encode(small, "PNG"), encode(255 - trimap, "PNG"))
    assert other.content != response.content, "the trimap matters"


def test_model_without_trimap_refuses_one(client, portrait_jpeg: bytes) -> None:
    response = post(client, portrait_jpeg, encode(draw_trimap(512), "PNG"))
    assert "takes no trimap" in assert_problem(response, 422, "invalid-option")["detail"]


@pytest.mark.parametrize(
    ("trimap", "code", "says"),
    [
        (None, "invalid-option", "needs a trimap"),
        (encode(draw_trimap(256), "PNG"), "invalid-option", "256 x 256"),
        (b"hello", "unsupported-media", "none of"),
    ],
)
def test_missing_or_bad_trimap_is_refused(
    make_client, portrait_jpeg: bytes, trimap: bytes | None, code: str, says: str
) -> None:
    status = 415 if code == "unsupported-media" else 422
    response = post(make_client(TrimapEngine()), portrait_jpeg, trimap)
    assert says in assert_problem(response, status, code)["detail"]


def test_clip_is_refused_by_a_model_that_needs_trimaps(make_client, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.2).read_bytes()
    response = make_client(TrimapEngine()).post("/v1/video", files={"file": clip})
    assert_problem(response, 422, "impossible-output")


def test_two_trimaps_are_refused(client, portrait_jpeg: bytes) -> None:
    trimap = encode(draw_trimap(512), "PNG")
    parts = [("file", portrait_jpeg), ("trimap_file", trimap), ("trimap_file", trimap)]
    response = client.post("/v1/image", files=parts)
    assert_problem(response, 422, "invalid-option")
