"""Recurrent networks: the state goes with the frames, through clips, chunks and live sockets."""

import numpy as np
import pytest

from service.inference.engine import OnnxEngine
from service.settings import Settings
from tests.clips import make_clip, picture
from tests.fakes import FakeEngine
from tests.helpers import decode, encode, post_image
from tests.networks import RVM, fade, take, write_recurrent
from tests.sessions import SessionClient, make_lossless_clip, read_parts, split
from tests.sockets import LiveSession, receive_answer, serve
from tests.videos import Clip, post

LEVELS = [40, 200, 120, 240, 0, 180]
PICTURES = [encode(np.full((64, 64, 3), level, np.uint8), "PNG") for level in LEVELS]
EXPECTED = np.rint(fade([level / 255 for level in LEVELS]) * 255)
OPTIONS = {"model": "fading", "output": "alpha", "packaging": "frames", "smoothing": "off"}


@pytest.fixture(scope="module")
def fading(tmp_path_factory):
    return write_recurrent(tmp_path_factory.mktemp("models") / "fading.onnx")


@pytest.fixture
def client(make_client, fading):
    return make_client(FakeEngine(), models=(fading,))


def read_level(image: np.ndarray) -> int:
    assert (image == image.flat[0]).all()
    return int(image.flat[0])


@pytest.mark.parametrize("borders", [[], [1], [2, 3], [1, 2, 3, 4, 5]])
def test_any_split_into_chunks_gives_the_mattes_of_the_whole(client, borders):
    session = SessionClient(client, **OPTIONS)
    answers = [session.send(chunk) for chunk in split(PICTURES, borders)]
    found = [read_level(part.image) for answer in answers for part in read_parts(answer)]
    np.testing.assert_allclose(found, EXPECTED, atol=1)
    assert session.get().json()["buffer_bytes"] > 64 * 64 * 4


def test_sent_again_chunk_takes_the_state_on_once(client):
    session = SessionClient(client, **OPTIONS)
    session.send(PICTURES[:2])
    again = session.put(0, PICTURES[:2])
    assert again.status_code == 200
    assert session.put(1, [b"no picture"]).status_code == 422  # and the state stays
    (third,) = read_parts(session.send([PICTURES[2]]))
    assert abs(read_level(third.image) - EXPECTED[2]) <= 1


def test_sessions_have_states_of_their_own(client):
    one, other = (SessionClient(client, **OPTIONS) for _ in range(2))
    for index, data in enumerate(PICTURES[:3]):
        (part,) = read_parts(one.send([data]))
        assert abs(read_level(part.image) - EXPECTED[index]) <= 1
        other.send([PICTURES[4]])


def test_still_begins_without_a_state(client):
    for _ in range(2):
        alpha = decode(post_image(client, PICTURES[1], model="fading").content)
        assert abs(read_level(alpha) - LEVELS[1] / 2) <= 1


def test_clip_is_matted_in_the_order_of_its_frames(client):
    images = [np.full((64, 64, 3), level, np.uint8) for level in LEVELS]
    answer = post(
        client,
        make_lossless_clip(images, 10),
        model="fading",
        outputs="frames",
        smoothing="off",
    )
    from tests.videos import read_cutouts

    found = [read_level(cutout[:, :, 3]) for cutout in read_cutouts(answer.content)]
    np.testing.assert_allclose(found, EXPECTED, atol=1)
    assert answer.headers["x-model"] == "fading"


def test_live_frames_and_chunks_share_the_state(fading):
    with serve(FakeEngine(), models=(fading,)) as client:
        session = LiveSession(client, **OPTIONS)
        found = [read_level(part.image) for part in read_parts(session.send(PICTURES[:2]))]
        with session.connect() as socket:
            for data in PICTURES[2:4]:
                socket.send(data)
                found.append(read_level(receive_answer(socket).image))
        found += [read_level(part.image) for part in read_parts(session.send(PICTURES[4:]))]
    np.testing.assert_allclose(found, EXPECTED, atol=1)


def test_real_recurrent_network_gives_equal_pixels_in_chunks(make_client, tmp_path):
    """Robust Video Matting: photo, clip, session, and its person is found."""
    rvm = take(RVM, tmp_path, "rvm", ref_size=64)
    client = make_client(FakeEngine(), models=(rvm,))
    images = [picture(9 * index, (128, 96)) for index in range(5)]
    chunks = [encode(image, "PNG") for image in images]
    options = OPTIONS | {"model": rvm.stem}
    whole, parts = (SessionClient(client, **options) for _ in range(2))
    expected = [part.image for part in read_parts(whole.send(chunks))]
    found = [part.image for few in split(chunks, [1, 3]) for part in read_parts(parts.send(few))]
    assert len(found) == 5 and all(map(np.array_equal, found, expected))
    assert max(image.max() for image in found) > 200
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.3, fps=10, size=(128, 96)).read_bytes()
    answer = post(client, clip, model=rvm.stem, outputs="alpha")
    assert answer.headers["x-model"] == rvm.stem and len(Clip(answer.content).images) == 3
    assert post_image(client, chunks[0], model=rvm.stem).status_code == 200


def test_recurrent_network_runs_one_frame_at_a_time(fading):
    engine = OnnxEngine(Settings(model_path=fading, max_batch_size=8))
    assert engine.info.is_recurrent and engine.max_batch_size == 1
    engine.warm_up()
