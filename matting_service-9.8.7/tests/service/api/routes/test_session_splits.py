"""Any split of a clip into chunks gives exactly the frames of one chunk, with the real network."""

import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.frames.render import Renderer, RenderOptions
from service.frames.segment import MattedFrame, Segment, process_segment
from service.inference.preprocessing import prepare_input
from service.media.video.types import VideoFrame
from tests.clips import picture
from tests.helpers import encode
from tests.segments import FunctionNetwork
from tests.sessions import SessionClient, make_lossless_clip, read_parts, split
from tests.videos import Clip

COUNT, FPS, REF_SIZE = 9, 25, 64
# A cut in the middle, a flash that smoothing takes out of the matte, and odd sizes.
IMAGES = [picture(12 * index, (65, 49)) for index in range(COUNT)]
IMAGES[3] = 255 - IMAGES[3]
IMAGES[6:] = [np.ascontiguousarray(image[::-1]) // 3 for image in IMAGES[6:]]
PICTURES = [encode(image, "PNG") for image in IMAGES]
BORDERS = st.sets(st.integers(1, COUNT - 1))
EXAMPLES = 8
THOROUGH = 100


def matte_whole(engine, images: list[np.ndarray]) -> list[np.ndarray]:
    """Return the cutouts of a clip that is one segment."""

    network = FunctionNetwork(
        lambda image: prepare_input(image, engine.info, REF_SIZE, 1.5),
        lambda tensor: engine.run(tensor[np.newaxis])[0],
    )
    segment = Segment(network, ofd_threshold=0.1)
    renderer = Renderer(RenderOptions(), *images[0].shape[:2])
    rendered: list[np.ndarray] = []

    def write(item: MattedFrame) -> None:
        rendered.append(renderer.render(item).cutout)

    frames = [VideoFrame(index, 1, image) for index, image in enumerate(images)]
    process_segment(frames, segment, write, threading.Event())
    return rendered


def answer_all(client, chunks: list, **options: object) -> list:
    """Return all answers of a session that sends these chunks and finishes."""
    session = SessionClient(client, fps=FPS, ref_size=REF_SIZE, **options)
    answers = [session.send(chunk) for chunk in chunks]
    answers.append(session.finish())
    session.delete()
    return answers


def make_chunks(kind: str, borders: set[int]) -> list:
    if kind == "pictures":
        return split(PICTURES, borders)
    return [make_lossless_clip(images, FPS) for images in split(IMAGES, borders)]


@pytest.fixture(scope="module")
def expected(engine) -> list[np.ndarray]:
    return matte_whole(engine, IMAGES)


@pytest.fixture(scope="module")
def whole(client) -> dict[str, Clip]:
    """What one chunk gives in an MP4, by the kind of the chunk."""
    found = {}
    for kind in ("pictures", "clip"):
        answers = answer_all(client, make_chunks(kind, set()))
        found[kind] = Clip(b"".join(answer.content for answer in answers))
    return found


def check_pictures(client, expected: list[np.ndarray], borders: set[int]) -> None:
    chunks = make_chunks("pictures", borders)
    answers = answer_all(client, chunks, output="cutout", packaging="frames")
    parts = [part for answer in answers for part in read_parts(answer)]
    assert [part.frame for part in parts] == list(range(COUNT))
    assert [part.time_s for part in parts] == [index / FPS for index in range(COUNT)]
    for part, image in zip(parts, expected, strict=True):
        assert np.array_equal(part.image, image)


def check_file(client, whole: dict[str, Clip], kind: str, borders: set[int]) -> None:
    answers = answer_all(client, make_chunks(kind, borders))
    clip = Clip(b"".join(answer.content for answer in answers))
    assert clip.times == [Fraction(index, FPS) for index in range(COUNT)]
    assert clip.times == whole[kind].times and clip.duration == whole[kind].duration
    for image, one in zip(clip.images, whole[kind].images, strict=True):
        assert np.array_equal(image, one)


def test_smoothing_and_scene_cuts_have_something_to_do(engine, client, expected) -> None:
    answers = answer_all(client, [PICTURES], output="cutout", packaging="frames", smoothing="off")
    raw = [part.image for answer in answers for part in read_parts(answer)]
    changed = [not np.array_equal(a, b) for a, b in zip(raw, expected, strict=True)]
    assert any(changed) and not all(changed)
    answers = answer_all(client, [PICTURES])
    assert answers[0].headers["x-scene-cuts"] != "0"


@settings(max_examples=EXAMPLES)
@given(borders=BORDERS)
def test_split_pictures_are_those_of_the_whole_bit_for_bit(client, expected, borders) -> None:
    check_pictures(client, expected, borders)


@pytest.mark.parametrize("kind", ["pictures", "clip"])
@settings(max_examples=EXAMPLES)
@given(borders=BORDERS)
def test_split_file_is_that_of_one_chunk(client, whole, kind: str, borders: set[int]) -> None:
    check_file(client, whole, kind, borders)


def test_split_clips_are_matted_as_the_whole_clip(client) -> None:
    def read_all(borders: set[int]) -> list[np.ndarray]:
        chunks = make_chunks("clip", borders)
        answers = answer_all(client, chunks, output="cutout", packaging="frames")
        return [part.image for answer in answers for part in read_parts(answer)]

    one, many = read_all(set()), read_all({1, 4, 5})
    assert len(one) == COUNT
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=THOROUGH)
@given(borders=BORDERS)
def test_many_splits_are_equal_in_every_form(client, expected, whole, borders) -> None:
    check_pictures(client, expected, borders)
    for kind in whole:
        check_file(client, whole, kind, borders)
