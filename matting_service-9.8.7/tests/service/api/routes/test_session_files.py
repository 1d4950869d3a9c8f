"""Answers of packaging=fmp4, written one after another, are one MP4, whatever goes wrong."""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.clips import picture
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode
from tests.sessions import SessionClient
from tests.videos import Clip

COUNT, FPS = 24, 12
IMAGES = [picture(index, (64, 48)) for index in range(COUNT)]
PICTURES = [encode(image, "PNG") for image in IMAGES]


@pytest.fixture(scope="module")
def client() -> Iterator:
    from tests.conftest import open_client

    with open_client(FakeEngine(), max_sessions=500, max_sessions_per_key=500) as opened:
        yield opened


def list_boxes(content: bytes) -> list[str]:
    """Return the kinds of the top-level boxes of an MP4 (ISO/IEC 14496-12)."""
    kinds, position = [], 0
    while position < len(content):
        size, kind = struct.unpack_from("!I4s", content, position)
        kinds.append(kind.decode())
        position += size
    assert position == len(content)
    return kinds


def assert_whole(contents: list[bytes], count: int = COUNT) -> Clip:
    clip = Clip(b"".join(contents))
    assert clip.times == [Fraction(index, FPS) for index in range(count)]
    for image, before in zip(clip.images, IMAGES, strict=False):
        assert np.abs(image.astype(int) - before).mean() < 6, "the right picture at its time"
    return clip


def test_beginning_goes_out_once_and_then_only_fragments(client) -> None:
    session = SessionClient(client, fps=FPS)
    answers = [session.send(PICTURES[:1]), session.send(PICTURES[1:3]), session.send(PICTURES[3:])]
    answers.append(session.finish())
    assert {answer.headers["content-type"] for answer in answers} == {"video/mp4"}
    boxes = [list_boxes(answer.content) for answer in answers]
    assert boxes == [["ftyp", "moov"], *[["moof", "mdat"]] * 3]
    assert_whole([answer.content for answer in answers])
    with av.open(io.BytesIO(b"".join(answer.content for answer in answers))) as container:
        context = container.streams.video[0].codec_context
        assert session.opened["mime"].endswith(f'avc1.{context.extradata[1:4].hex()}"')


def test_without_smoothing_the_last_answer_is_empty(client) -> None:
    session = SessionClient(client, fps=FPS, smoothing="off")
    contents = [session.send(PICTURES[:5]).content, session.finish().content]
    assert contents[1] == b""
    assert_whole(contents, 5)


def test_repeated_answers_are_those_of_the_first_time(client) -> None:
    session = SessionClient(client, fps=FPS)
    contents = []
    for sequence in range(4):
        chunk = PICTURES[sequence * 6 : sequence * 6 + 6]
        contents.append(session.send(chunk).content)
        assert session.put(sequence, chunk).content == contents[-1]
    contents.append(session.finish().content)
    assert session.finish().content == contents[-1]
    assert_whole(contents)


def test_chunk_that_fails_before_the_encoder_leaves_no_trace(client) -> None:
    def answer(fails: bool) -> bytes:
        session = SessionClient(client, fps=FPS)
        contents = [session.send(PICTURES[:8]).content]
        if fails:
            assert_problem(session.put(1, [b"nothing"]), 422, "undecodable-media")
            assert_problem(session.put(1, b"nothing"), 422, "undecodable-media")
        contents += [session.send(PICTURES[8:]).content, session.finish().content]
        return b"".join(contents)

    assert answer(fails=True) == answer(fails=False)


def test_chunk_that_fails_after_the_encoder_was_fed_begins_anew(client) -> None:
    session = SessionClient(client, fps=FPS)
    contents = [session.send(PICTURES[:4]).content]
    damaged = [*PICTURES[4:20], PICTURES[20][:60]]
    for _ in range(2):
        assert_problem(session.put(1, damaged), 422, "undecodable-media")
    contents += [session.send(PICTURES[4:]).content, session.finish().content]
    assert_whole(contents)
    with av.open(io.BytesIO(b"".join(contents))) as container:
        keys = [packet.pts for packet in container.demux() if packet.size and packet.is_keyframe]
        ticks = Fraction(1, FPS) / container.streams.video[0].time_base
    assert keys == [0, 3 * ticks], "the first frame after the failure stands by itself"


def test_odd_sizes_are_padded(client) -> None:
    session = SessionClient(client, fps=FPS)
    odd = [encode(picture(index, (33, 31)), "PNG") for index in range(3)]
    clip = Clip(session.send(odd).content + session.finish().content)
    assert [image.shape for image in clip.images] == [(32, 34, 3)] * 3


def test_alpha_is_grey(client) -> None:
    session = SessionClient(client, fps=FPS, output="alpha")
    clip = Clip(session.send(PICTURES[:3]).content + session.finish().content)
    assert all(image.min() > 250 for image in clip.images)
