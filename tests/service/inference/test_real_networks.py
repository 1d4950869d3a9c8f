"""u2netp and RVM, the real files, through every route: one picture at a time and one after another.

The tests of `test_description` and `test_recurrent` say what the fields and the states do; these
say that each route feeds the network as it wants to be fed.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from cli.__main__ import main as matte
from tests.clips import picture
from tests.fakes import FakeEngine
from tests.helpers import decode, encode, post_image
from tests.job_requests import bring, wait_for_end
from tests.networks import RVM, U2NETP, take
from tests.sessions import SessionClient, make_lossless_clip, read_parts, split
from tests.sockets import LiveSession, receive_answer, serve
from tests.videos import Clip, post

IMAGES = [picture(9 * index, (128, 96)) for index in range(4)]
PICTURES = [encode(image, "PNG") for image in IMAGES]
KINDS = {"u2netp": (U2NETP, "u2net", {}), "rvm_mobilenetv3_fp32": (RVM, "rvm", {"ref_size": 96})}


@pytest.fixture(scope="module", params=KINDS)
def network(request, tmp_path_factory) -> Path:
    """The ONNX file, its description beside it."""
    file, like, fields = KINDS[request.param]
    return take(file, tmp_path_factory.mktemp("networks"), like, **fields)


@pytest.fixture(scope="module")
def client(network) -> Iterator[httpx.Client]:
    with serve(FakeEngine(), models=(network,)) as opened:
        opened.timeout = 120
        yield opened


@pytest.fixture(scope="module")
def clip() -> bytes:
    return make_lossless_clip(IMAGES, 10)


def test_photo_alone_and_in_a_batch_gets_one_matte(client, network):
    single = post_image(client, PICTURES[0], model=network.stem)
    assert single.status_code == 200 and single.headers["x-model"] == network.stem
    assert single.headers["x-provider"].endswith("ExecutionProvider")
    alpha = decode(single.content)
    assert alpha.shape == IMAGES[0].shape[:2] and alpha.max() > 200 and alpha.min() < 50
    parts = [("file", (f"{index}.png", data)) for index, data in enumerate(PICTURES[:2])]
    batch = client.post("/v1/image", files=parts, data={"model": network.stem})
    assert batch.status_code == 200
    assert single.content in batch.content, "a ZIP stores the PNG as it is"


def test_clip_job_and_command_give_the_frames_of_one_another(client, network, clip, tmp_path):
    options = {"model": network.stem, "outputs": "alpha"}
    answer = post(client, clip, **options)
    assert answer.headers["x-model"] == network.stem
    expected = Clip(answer.content)
    assert len(expected.images) == len(IMAGES) and np.max(expected.images) > 200
    brought = bring(client, clip, **options)
    assert brought.status_code == 202
    job = wait_for_end(client, brought.headers["location"])
    assert job["state"] == "succeeded", job["error"]
    assert job["report"]["model"] == network.stem
    done = Clip(client.get(job["results"][0]["url"]).content)
    assert np.array_equal(done.images, expected.images)
    (tmp_path / "clip.mp4").write_bytes(clip)
    arguments = [str(tmp_path / "clip.mp4"), str(tmp_path / "out.mp4"), "--outputs", "alpha"]
    assert matte(["video", *arguments, "--model", str(network)]) == 0
    made = Clip((tmp_path / "out.mp4").read_bytes())
    assert np.array_equal(made.images, expected.images)


def test_chunks_and_live_frames_give_the_frames_of_the_whole(client, network):
    options = {
        "model": network.stem,
        "output": "alpha",
        "packaging": "frames",
        "smoothing": "off",
    }
    whole, parts, live = (
        SessionClient(client, **options),
        SessionClient(client, **options),
        LiveSession(client, **options),
    )
    expected = [part.image for part in read_parts(whole.send(PICTURES))]
    assert len(expected) == len(IMAGES) and np.max(expected) > 200
    chunks = split(PICTURES, [1, 3])
    found = [part.image for few in chunks for part in read_parts(parts.send(few))]
    assert np.array_equal(found, expected)
    assert parts.get().json()["model"] == network.stem
    answers = []
    with live.connect() as socket:
        for data in PICTURES:
            socket.send(data)
            answers.append(receive_answer(socket))
    assert np.array_equal([answer.image for answer in answers], expected)
