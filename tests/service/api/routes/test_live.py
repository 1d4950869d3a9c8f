"""The live socket over real uvicorn: what is answered, and how."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.fakes import BlockedEngine, BrokenEngine, FakeEngine
from tests.helpers import assert_problem, encode, read_metric, wait_until
from tests.sessions import SessionClient, number_picture, read_number, read_parts
from tests.sockets import LiveSession, receive_answer, receive_facts, serve

PICTURES = [number_picture(number) for number in range(10)]
STARTS = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8", "WEBP": b"RIFF"}


def see_brightness(batch: np.ndarray) -> np.ndarray:
    """A network whose mattes show which picture they belong to."""
    return np.clip(batch.mean(axis=1, dtype=np.float32) / 2 + 0.5, 0, 1)


@pytest.fixture(scope="module")
def site() -> Iterator:
    with serve(FakeEngine(see_brightness), max_sessions=99, max_sessions_per_key=99) as client:
        yield client


@pytest.fixture
def session(site) -> LiveSession:
    """A session without delay."""
    return LiveSession(site, output="cutout", smoothing="off")


def test_frames_come_one_late_and_finish_brings_the_last(site) -> None:
    session = LiveSession(site, output="cutout")
    with session.connect() as socket:
        assert socket.subprotocol == "matting.v1"
        socket.send(PICTURES[0])
        for number in range(1, 6):
            socket.send(PICTURES[number])
            answer = receive_answer(socket)
            assert answer.facts["frame"] == number - 1 and answer.facts["dropped"] == 0
            assert answer.facts["latency_ms"] > 0 and answer.facts["fps"] >= 0
            assert read_number(answer.image) == number - 1
    assert session.get().json()["frames_pending"] == 1
    (last,) = read_parts(session.finish())
    assert last.frame == read_number(last.image) == 5


def test_frame_is_answered_at_once_without_smoothing(session: LiveSession) -> None:
    with session.connect() as socket:
        for number in range(4):
            socket.send(PICTURES[number])
            answer = receive_answer(socket)
            assert answer.facts["frame"] == read_number(answer.image) == number


def test_live_frames_are_those_that_chunks_give_and_flicker_is_repaired(site) -> None:
    levels = [60, 61, 110, 63, 64]
    pictures = [encode(np.full((40, 40, 3), level, np.uint8), "PNG") for level in levels]
    live, session = [], LiveSession(site)
    with session.connect() as socket:
        socket.send(pictures[0])
        for picture in pictures[1:]:
            socket.send(picture)
            live.append(receive_answer(socket).image)
    chunks = SessionClient(site, output="alpha", packaging="frames")
    expected = [part.image for part in read_parts(chunks.send(pictures))]
    assert len(live) == len(expected) == 4
    assert all(np.array_equal(one, other) for one, other in zip(live, expected, strict=True))
    assert [int(image[0, 0]) for image in live] == pytest.approx([60, 61, 62, 63], abs=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("options", "format", "shape"),
    [
        ({"output": "alpha"}, "PNG", (60, 90)),
        ({"output": "composite", "background": "red", "format": "jpeg"}, "JPEG", (60, 90, 3)),
        ({"output": "cutout", "format": "webp"}, "WEBP", (60, 90, 4)),
    ],
)
def test_answers_are_pictures_as_the_session_asks(
    site, portrait, options: dict, format: str, shape: tuple, kind: str
) -> None:
    session = LiveSession(site, smoothing="off", **options)
    with session.connect() as socket:
        socket.send(encode(portrait[:60, :90], kind))
        answer = receive_answer(socket)
    assert answer.image.shape == shape and answer.content.startswith(STARTS[format])


def test_jpeg_of_a_cutout_is_refused_when_the_session_opens(site) -> None:
    options = {"output": "cutout", "packaging": "frames", "format": "jpeg"}
    assert_problem(site.post("/v1/sessions", json=options), 422, "impossible-output")


def test_chunks_and_connections_take_turns_in_one_video(site) -> None:
    session = LiveSession(site, output="cutout")
    numbers = [read_number(part.image) for part in read_parts(session.send(PICTURES[:3]))]
    with session.connect() as socket:
        for number in (3, 4):
            socket.send(PICTURES[number])
        before, first = receive_answer(socket), receive_answer(socket)
    assert before.facts["frame"] == -1, "it came before this connection"
    assert first.facts["frame"] == 0
    numbers += [read_number(answer.image) for answer in (before, first)]
    numbers += [read_number(part.image) for part in read_parts(session.send(PICTURES[5:7]))]
    (last,) = read_parts(session.finish())
    assert [*numbers, read_number(last.image)] == list(range(7))
    assert last.time_s == pytest.approx(6 / 30, abs=1e-5)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"", "undecodable-media"),
        (b"no picture at all", "undecodable-media"),
        (PICTURES[0][:-30], "undecodable-media"),
        (encode(np.zeros((32, 32), np.uint8), "GIF"), "undecodable-media"),
        (encode(np.zeros((48, 32, 3), np.uint8), "PNG"), "impossible-output"),
        (encode(np.zeros((1, 5000, 3), np.uint8), "PNG"), "media-limit-exceeded"),
    ],
)
def test_bad_frame_is_told_and_the_stream_goes_on(
    session: LiveSession, bad: bytes, code: str
) -> None:
    with session.connect() as socket:
        socket.send(PICTURES[0])
        receive_answer(socket)
        socket.send(bad)
        facts = receive_facts(socket)
        assert facts["frame"] == 1 and facts["problem"]["code"] == code
        assert facts["problem"]["detail"]
        socket.send(PICTURES[2])
        answer = receive_answer(socket)
        assert answer.facts["frame"] == read_number(answer.image) == 2


def test_frame_that_the_network_fails_on_is_told_and_the_stream_goes_on() -> None:
    engine = BrokenEngine()
    with serve(engine) as site, LiveSession(site, smoothing="off").connect() as socket:
        socket.send(PICTURES[0])
        problem = receive_facts(socket)["problem"]
        assert problem["status"] == 500 and "secret" not in str(problem)
        engine.broken = False
        socket.send(PICTURES[1])
        assert receive_answer(socket).facts["frame"] == 1


# Load.


def test_two_frames_wait_and_a_third_takes_the_place_of_both() -> None:
    """Beside the two that are worked on: one at the network, one before it."""
    engine = BlockedEngine()
    with serve(engine) as site:
        session = LiveSession(site, output="cutout", smoothing="off")
        with session.connect() as socket:
            socket.send(PICTURES[0])
            assert engine.entered.wait(10)
            socket.send(PICTURES[1])
            wait_until(lambda: read_metric(site, "matting_queue_depth") == 1)
            for picture in PICTURES[2:]:
                socket.send(picture)
            wait_until(lambda: read_metric(site, "matting_live_frames_dropped_total") == 6)
            engine.release.set()
            answers = [receive_answer(socket) for _ in range(4)]
    assert [answer.facts["frame"] for answer in answers] == [0, 1, 8, 9]
    assert [read_number(answer.image) for answer in answers] == [0, 1, 8, 9]
    assert {answer.facts["dropped"] for answer in answers} == {6}


def test_frames_of_several_sockets_share_a_batch() -> None:
    engine = BlockedEngine(max_batch_size=8)
    with serve(engine) as site:
        sockets = [LiveSession(site, smoothing="off").connect() for _ in range(5)]
        with sockets[0] as first, sockets[1] as a, sockets[2] as b, sockets[3] as c:
            with sockets[4] as d:
                first.send(PICTURES[0])
                assert engine.entered.wait(10)
                for number, socket in enumerate((a, b, c, d), 1):
                    socket.send(PICTURES[number])
                wait_until(lambda: read_metric(site, "matting_queue_depth") == 4)
                engine.release.set()
                for socket in (first, a, b, c, d):
                    assert receive_answer(socket).facts["frame"] == 0
    assert [len(batch) for batch in engine.batches] == [1, 4]


def test_reader_who_stops_reading_costs_frames_and_no_memory(portrait) -> None:
    """What it reads later are the frames that lay on the way, then those of now."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    picture = encode(noise, "JPEG", quality=95)
    frames = 400
    with serve(FakeEngine()) as site:
        session = LiveSession(site, output="cutout", smoothing="off")
        with session.connect(max_queue=1) as socket:
            for _ in range(frames):
                socket.send(picture)
            socket.send(encode(255 - noise, "PNG"))
            seen = []
            while not seen or seen[-1].facts["frame"] < frames:
                seen.append(receive_answer(socket))
    numbers = [answer.facts["frame"] for answer in seen]
    dropped = seen[-1].facts["dropped"]
    assert numbers == sorted(numbers) and dropped > frames / 4
    assert len(numbers) + dropped == frames + 1, "each frame is answered or counted"
    assert np.array_equal(seen[-1].image[:, :, :3], 255 - noise)


# Metrics and documents.


def test_frames_and_connections_are_counted(site, session: LiveSession) -> None:
    route = {"route": "/v1/sessions/{session_id}/live", "method": "GET", "status": "101"}

    def count() -> tuple[float, float]:
        frames = read_metric(site, "matting_frames_total", kind="live")
        return frames, read_metric(site, "matting_requests_total", **route)

    frames, sockets = count()
    with session.connect() as socket:
        socket.send(PICTURES[0])
        receive_answer(socket)
    wait_until(lambda: count() == (frames + 1, sockets + 1))


def test_capabilities_tell_the_facts_of_the_socket(site) -> None:
    live = site.get("/v1/capabilities").json()["live"]
    assert live["protocol"] == "matting.v1" and live["frames"] == ["jpeg", "png", "webp"]
    assert live["message_max_bytes"] == 2 * 2**20 and live["waiting_frames"] == 2
