"""Networks that take pictures as bytes and normalise them by themselves: the same mattes."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import export.pipeline
from cli.__main__ import main as matte
from export.pixels import take_pixels
from service.inference.binding import BoundRuns
from service.inference.engine import OnnxEngine
from service.inference.models import ModelError
from service.inference.preprocessing import fit_to_network
from service.settings import DEFAULT_MODEL, Settings
from tests.clips import make_clip
from tests.helpers import ROOT, decode, encode
from tests.providers import BEST
from tests.sessions import SessionClient, read_parts
from tests.videos import Clip

CHECKPOINT = ROOT / "training" / "weights" / "modnet-fast.npz"
# Normalised in float32 on both sides, in another order: the inputs differ in their last bit.
PARITY = 1e-4


def write_pixel_model(path: Path) -> Path:
    shutil.copy(DEFAULT_MODEL, path)
    take_pixels(path, mean=0.5, std=0.5)
    return path


def load(path: Path, device: str = "cpu") -> OnnxEngine:
    return OnnxEngine(Settings(model_path=path, device=device, precision="fp32"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    """The default network with uint8 input."""
    return load(write_pixel_model(tmp_path_factory.mktemp("model") / "pixels.onnx"))


@pytest.fixture(scope="module")
def floats() -> OnnxEngine:
    return load(DEFAULT_MODEL)


@pytest.mark.parametrize("ref_size", [128, 512])
def test_mattes_are_those_of_the_float_graph(pixels, floats, portrait, ref_size) -> None:
    pictures = [portrait, np.ascontiguousarray(portrait[:, ::-1])]
    mattes = []
    for engine in (pixels, floats):
        inputs = [fit_to_network(one, engine.info, ref_size, 1.5) for one in pictures]
        mattes.append(engine.run(np.stack(inputs)))
    assert mattes[0].shape == mattes[1].shape and mattes[0].max() > 0.99
    assert np.abs(mattes[0] - mattes[1]).max() < PARITY


def test_fastest_provider_takes_bytes_too(pixels, floats, tmp_path, portrait) -> None:
    fast = load(write_pixel_model(tmp_path / "pixels.onnx"), "auto")
    assert fast.provider == BEST
    batch = fit_to_network(portrait, fast.info, 128, 1.5)[np.newaxis]
    assert np.abs(fast.run(batch) - pixels.run(batch)).max() < 1e-3


def test_picture_itself_is_the_input(pixels, portrait) -> None:
    info = pixels.info
    given = fit_to_network(portrait, info, 128, 1.5)
    assert (given.dtype, given.shape[2], info.takes_pixels) == (np.uint8, 3, True)
    assert info.read_size(given[np.newaxis]) == given.shape[:2]
    (declared,) = pixels._session.get_inputs()
    assert (declared.type, declared.shape) == (
        "tensor(uint8)",
        ["batch", "32*h", "32*w", 3],
    )


def test_buffers_on_the_device_take_bytes(pixels) -> None:
    bound = BoundRuns(pixels._session, "input", "output", "cpu")
    rng = np.random.default_rng(0)
    for count, size in [(1, (64, 96)), (2, (96, 64)), (1, (64, 96))]:
        batch = rng.integers(0, 256, (count, *size, 3), np.uint8)
        np.testing.assert_array_equal(bound.run(batch, size)[:, 0].clip(0, 1), pixels.run(batch))


def test_warm_up_and_probe_run(pixels, make_client) -> None:
    pixels.warm_up()
    client = make_client(pixels)
    assert client.get("/readyz?verbose").status_code == 200
    assert client.get("/v1/models").status_code == 200


def test_every_route_answers_as_with_the_float_graph(
    pixels, floats, make_client, portrait, portrait_jpeg, tmp_path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=8).read_bytes()
    answers = []
    for engine in (pixels, floats):
        client = make_client(engine)
        files = {"file": portrait_jpeg}
        whole = client.post("/v1/image", params={"output": "alpha"}, files=files)
        options = {"output": "alpha", "roi": "100,50,300,400"}
        part = client.post("/v1/image", params=options, files=files)
        old = client.post("/v1.0/removebg", files={"image_file": portrait_jpeg})
        video = client.post("/v1/video", params={"outputs": "alpha"}, files={"file": clip})
        session = SessionClient(client, packaging="frames", output="alpha")
        frame = encode(portrait[:128, :128], "PNG")
        parts = read_parts(session.send([frame] * 2)) + read_parts(session.finish())
        for response in (whole, part, old, video):
            assert response.status_code == 200, response.text
        pictures = [decode(one.content) for one in (whole, part, old)]
        answers.append([*pictures, *Clip(video.content).images, *(one.image for one in parts)])
    assert len(answers[0]) == len(answers[1]) > 7
    for one, other in zip(*answers, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= 2


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-3), ("fp16", 2e-2)])
def test_export_is_verified_and_says_so(tmp_path, monkeypatch, precision, tolerance) -> None:
    """Tracing takes long and is tested elsewhere; loading, rewriting and verification are real."""

    def copy(network, path, metadata):
        shutil.copy(DEFAULT_MODEL, path)

    monkeypatch.setattr(export.pipeline, "write_onnx", copy)
    out = tmp_path / "bytes.onnx"
    arguments = ["export", str(CHECKPOINT), str(out), "--uint8-input", "--precision", precision]
    assert matte(arguments) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["max_abs"] <= report["tolerance"] == tolerance
    assert load(out).info.takes_pixels


def test_trimap_is_no_picture(tmp_path, capsys) -> None:
    from tests.tiny_network import make_tiny_model
    from training.network.checkpoint import save_checkpoint

    checkpoint = tmp_path / "four.pt"
    save_checkpoint(checkpoint, make_tiny_model(in_channels=4))
    arguments = ["export", str(checkpoint), str(tmp_path / "out.onnx"), "--uint8-input"]
    assert matte(arguments) == 1
    assert "takes a trimap, which is not a picture" in capsys.readouterr().err


def test_file_that_says_otherwise_than_its_metadata_is_refused(tmp_path) -> None:
    path = write_pixel_model(tmp_path / "lying.onnx")
    model = onnx.load(path)
    kept = [one for one in model.metadata_props if one.key != "input"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, path)
    with pytest.raises(ModelError, match="channels"):
        load(path)
