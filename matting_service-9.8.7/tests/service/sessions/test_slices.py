"""Slices of one recording as chunks: the same frames and times as the whole recording."""

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from service.media.video.recording.slices import join
from tests import clips
from tests.fakes import FakeEngine
from tests.helpers import assert_problem
from tests.sessions import SessionClient, read_parts

FRAMES = 60
MARKS = {"webm-vp8": b"\x1f\x43\xb6\x75", "mp4": b"moof"}  # where the header has just ended
SIZE = (96, 64)


@pytest.fixture(scope="module")
def client() -> Iterator:
    from tests.conftest import open_client

    with open_client(FakeEngine(), max_sessions=100, max_sessions_per_key=100) as opened:
        yield opened


def record(kind: str, *, audio: bool = False, start_ms: int = 0) -> bytes:
    """Return a recording as browsers write it: no rate, no duration, a part every 300 ms."""
    formats = {
        "webm-vp8": ("webm", "libvpx", {"live": "1", "cluster_time_limit": "300"}),
        "webm-vp9": ("webm", "libvpx-vp9", {"live": "1", "cluster_time_limit": "300"}),
        "mp4": ("mp4", "libx264", {"movflags": "frag_every_frame+empty_moov+default_base_moof"}),
        "mp4-groups": ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    }
    format, codec, muxer = formats[kind]
    file = io.BytesIO()
    options = {"g": "20", "bf": "0", "deadline": "realtime", "lag-in-frames": "0"}
    if codec == "libx264":
        options = {"g": "20", "bf": "0", "preset": "ultrafast", "tune": "zerolatency"}
    with av.open(file, "w", format=format, container_options=muxer) as out:
        video = out.add_stream(codec, rate=30, options=options)
        (video.width, video.height), video.pix_fmt = SIZE, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound_codec = "libopus" if format == "webm" else "aac"
        sound = out.add_stream(sound_codec, rate=48_000) if audio else None
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(clips.picture(index, SIZE), "rgb24")
            frame.pts, frame.time_base = start_ms + round(index * 1000 / 30), Fraction(1, 1000)
            out.mux(video.encode(frame))
            if sound is not None:
                out.mux(sound.encode(clips.tone_frame(index * 1600, 1600)))
        for stream in [video, *([sound] if sound is not None else [])]:
            out.mux(stream.encode(None))
    return file.getvalue()


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, position = [], 0
    for size in sizes:
        pieces.append(data[position : position + size])
        position += size
    return [*pieces, data[position:]]


def count_frames(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as file:
        return sum(1 for _ in file.decode(video=0))


def send_all(client, pieces: list[bytes]):
    session = SessionClient(client, packaging="frames", output="composite", background="red")
    answers = [session.send(piece) for piece in pieces]
    parts = [part for answer in answers for part in read_parts(answer)]
    return answers, parts + read_parts(session.finish())


@pytest.mark.parametrize("audio", [False, True])
@pytest.mark.parametrize("kind", ["webm-vp8", "webm-vp9", "mp4", "mp4-groups"])
def test_slices_give_what_the_whole_recording_gives(client, kind: str, audio: bool) -> None:
    """Cut anywhere, as no browser is bound to the parts of a file."""
    data = record(kind, audio=audio)
    _, whole = send_all(client, [data])
    random = np.random.default_rng(3)
    first = max(len(data) // 4, 3000)
    sizes = random.integers(300, len(data) // 6, 6).tolist()
    answers, parts = send_all(client, cut(data, [first, *sizes]))
    count = count_frames(data)
    assert len(whole) == len(parts) == count >= FRAMES - 1
    assert [part.frame for part in parts] == list(range(count))
    assert [part.time_s for part in parts] == pytest.approx([p.time_s for p in whole], abs=1e-6)
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one.image, other.image)
    assert all("x-frames-lost" not in answer.headers for answer in answers)


def test_slices_of_a_recording_that_began_long_ago(client) -> None:
    data = record("webm-vp8", start_ms=40_000)
    _, parts = send_all(client, cut(data, [len(data) // 2]))
    assert len(parts) == FRAMES and parts[0].time_s == 0
    assert parts[-1].time_s == pytest.approx(59 / 30, abs=0.002)


def test_slice_without_a_whole_frame_is_taken(client) -> None:
    data = record("webm-vp8")
    answers, parts = send_all(client, cut(data, [len(data) // 2, 3, 2]))
    assert len(parts) == FRAMES
    assert answers[1].headers["x-frames-in"] == "0"


@pytest.mark.parametrize("packaging", ["frames", "fmp4"])
@pytest.mark.parametrize("kind", ["webm-vp8", "mp4"])
def test_first_slice_may_be_the_header_alone(client, kind: str, packaging: str) -> None:
    data = record(kind)
    session = SessionClient(client, packaging=packaging)
    tiny = [1, 2, 20] if kind == "webm-vp8" else []
    sizes = [*tiny, data.index(MARKS[kind]) + 4 - sum(tiny), 200, len(data) // 2]
    answers = [session.send(piece) for piece in cut(data, sizes)]
    assert answers[0].headers["x-frames-in"] == "0"
    assert sum(int(answer.headers["x-frames-in"]) for answer in answers) == FRAMES
    if packaging == "fmp4":
        answers.append(session.finish())
        assert count_frames(b"".join(answer.content for answer in answers)) == FRAMES


def test_recordings_may_follow_one_another(client) -> None:
    data = record("webm-vp8")
    half = len(data) // 2
    _, parts = send_all(client, [data[:half], data[half:], data[:half], data[half:]])
    assert len(parts) == 2 * FRAMES
    times = [part.time_s for part in parts]
    assert times == sorted(times) and times[-1] == pytest.approx(119 / 30, abs=0.05)


def test_later_slice_without_the_first_is_explained(client) -> None:
    data = record("webm-vp8")
    cluster = data.index(b"\x1f\x43\xb6\x75", len(data) // 2)
    session = SessionClient(client, packaging="frames")
    response = session.put(0, data[cluster:])
    assert_problem(response, 422, "undecodable-media")
    assert "from the first one on" in response.json()["hint"]
    moof = record("mp4").index(b"moof", 5000) - 4
    response = session.put(0, record("mp4")[moof:])
    assert "later slice" in response.json()["detail"]


def test_damaged_slices_are_read_without_a_crash() -> None:
    random = np.random.default_rng(0)
    for kind in ("webm-vp8", "mp4"):
        data = record(kind)
        for _ in range(300):
            hurt = bytearray(data[: random.integers(1, len(data))])
            for position in random.integers(0, min(len(hurt), 2000), 8):
                hurt[position] = random.integers(0, 256)
            parts, slices = join(None, bytes(hurt))
            assert parts.bytes <= len(hurt)
            if slices is not None:
                join(slices, bytes(hurt))
