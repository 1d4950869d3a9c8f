"""Frames of a live connection on their way: what waits, what is dropped, what the times say."""

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from service.inference.providers import CPU, CUDA
from service.metrics import Metrics
from service.sessions.inbox import Inbox, LiveFrame, Rendezvous
from service.sessions.live import LiveStream
from service.sessions.options import SessionOptions
from tests.conftest import open_client
from tests.fakes import FakeEngine
from tests.helpers import encode
from tests.sessions import Clock, number_picture

GREY, WHOLE, HALVED = -1, 0, 2  # Pillow's numbers: no colour, 4:4:4, 4:2:0


@pytest.fixture(scope="module")
def client() -> Iterator:
    with open_client(FakeEngine()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("frames", "left"), [(1, [0]), (2, [0, 1]), (3, [2]), (4, [2, 3]), (5, [4])]
)
def test_inbox_holds_two_and_a_third_takes_the_place_of_both(frames: int, left: list[int]) -> None:
    metrics = Metrics()
    inbox = Inbox(metrics)
    for number in range(frames):
        inbox.put(LiveFrame(number, 0.0))
    assert inbox.dropped == metrics.frames_dropped._value.get() == frames - len(left)
    assert [inbox.take().number for _ in left] == left and inbox.take() is None


def test_handover_returns_only_when_the_item_is_taken() -> None:
    async def hand_over() -> list[str]:
        log: list[str] = []
        handover: Rendezvous[int] = Rendezvous()

        async def give() -> None:
            for item in (1, 2):
                await handover.give(item)
                log.append(f"{item} is gone")

        giving = asyncio.create_task(give())
        for _ in range(3):
            await asyncio.sleep(0)
        log.append(f"took {await handover.take()}")
        log.append(f"took {await handover.take()}")
        await giving
        return log

    assert asyncio.run(hand_over()) == ["took 1", "1 is gone", "took 2", "2 is gone"]


async def run_stream(client, session, story, **more):
    """Return what `story(stream)` does with the frames of a connection to a session."""
    stream = LiveStream(client.app.state.services.runtime, session, **more)
    tasks = [asyncio.create_task(work) for work in (stream.matte_frames(), stream.render_frames())]
    try:
        return await story(stream)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("smoothing", ["ofd", "off"])
def test_latency_goes_from_arrival_to_the_answer_and_rate_counts_answers(
    client, smoothing: str
) -> None:
    """Frames come half a second apart; with smoothing each waits for the next one."""
    services = client.app.state.services

    clock = Clock()
    options = SessionOptions(packaging="frames", smoothing=smoothing)
    session = services.sessions.open("anonymous", options)

    async def send(stream: LiveStream) -> list[tuple[int, float, float]]:
        found = []
        for number in range(5):
            clock.now_s += 0.5
            stream.offer(number_picture(number))
            if number or smoothing == "off":
                facts = (await stream.take()).facts
                found.append((facts["frame"], facts["latency_ms"], facts["fps"]))
            else:
                while not session.state.frames_in:
                    await asyncio.sleep(0.001)
        return found

    found = client.portal.call(partial(run_stream, client, session, send, clock=clock))
    late_ms = 500.0 if smoothing == "ofd" else 0.0
    rates = [0.0] + [2.0] * (len(found) - 1)
    assert found == [(number, late_ms, rate) for number, rate in enumerate(rates)]


def make_disc(batch: np.ndarray) -> np.ndarray:
    """Return a soft disc in the middle of each picture."""
    height, width = batch.shape[2:]
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    disc = np.clip((height / 3 - distance) / 12 + 0.5, 0, 1).astype(np.float32)
    return np.stack([disc] * len(batch))


async def answer_one(client, data: bytes, **look: object) -> Image.Image:
    """Return the picture that a live session with this look makes of its only frame."""
    options = SessionOptions(packaging="frames", smoothing="off", **look)
    session = client.app.state.services.sessions.open("anonymous", options)

    async def send(stream: LiveStream) -> Image.Image:
        stream.offer(data)
        return Image.open(io.BytesIO((await stream.take()).content))

    return await run_stream(client, session, send)


LOOKS = {
    "colour": ({"background": "#3060a0"}, HALVED),
    "eroded": ({"background": "white", "erode": 1}, HALVED),
    "blur": ({"background": "blur"}, WHOLE),
    "shadow": ({"background": "white", "shadow": "soft"}, WHOLE),
    "matte": ({"output": "alpha"}, GREY),
    "moved": ({"background": "white", "scale": "50%"}, WHOLE),
}


@pytest.mark.parametrize(("look", "sampling"), LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("size", [(320, 256), (321, 256), (320, 257)])
def test_colour_of_plain_frames_is_halved_and_else_right(
    portrait: np.ndarray, look: dict[str, object], sampling: int, size: tuple[int, int]
) -> None:
    photo = encode(cv2.resize(portrait, size, interpolation=cv2.INTER_AREA), "PNG")
    with open_client(FakeEngine(make_disc)) as client:
        exact = client.portal.call(partial(answer_one, client, photo, format="png", **look))
        jpeg = client.portal.call(partial(answer_one, client, photo, format="jpeg", **look))
    assert jpeg.size == exact.size == size
    is_odd = size != (320, 256)
    assert get_sampling(jpeg) == (WHOLE if is_odd and sampling == HALVED else sampling)
    kept = io.BytesIO()
    exact.save(kept, "JPEG", quality=90, subsampling=max(WHOLE, get_sampling(jpeg)))
    difference = np.abs(np.int16(jpeg) - np.int16(Image.open(kept)))
    assert difference.mean() < 2.5 and np.percentile(difference, 99) <= 16


class OwnSize(FakeEngine):
    """An engine whose own size is that of the fast network."""

    def __init__(self, provider: str = CPU) -> None:
        super().__init__()
        self.info = replace(self.info, ref_size=320)
        self.provider = provider


LIVE: dict[str, object] = {"packaging": "frames", "smoothing": "off"}


@pytest.mark.parametrize(
    ("look", "provider", "height"),
    [
        ({}, CPU, 256),
        ({"prefer": "speed"}, CPU, 256),
        ({"prefer": "quality"}, CPU, 320),
        ({"model": "fake"}, CPU, 320),
        ({"ref_size": 192}, CPU, 192),
        ({"ref_size": 320}, CPU, 320),
        ({}, CUDA, 320),
    ],
)
def test_live_frames_are_smaller_at_the_network_of_a_cpu(look, provider, height) -> None:
    engine = OwnSize(provider)
    frame = encode(np.zeros((360, 640, 3), np.uint8), "JPEG")

    async def send(stream: LiveStream) -> None:
        stream.offer(frame)
        await stream.take()

    with open_client(engine) as client:
        options = SessionOptions(**LIVE, **look)
        session = client.app.state.services.sessions.open("anonymous", options)
        client.portal.call(run_stream, client, session, send)
    assert engine.shapes[-1][2] == height
    assert session.state.ref_size == (None if height == 320 and "ref_size" not in look else height)


def test_session_keeps_the_size_that_its_first_frame_had_at_the_network() -> None:
    """Smoothing compares neighbours, and a matte of another size is none."""
    engine = OwnSize()
    picture = encode(np.zeros((360, 640, 3), np.uint8), "PNG")
    options = SessionOptions(packaging="frames", smoothing="ofd")
    with open_client(engine) as client:
        services = client.app.state.services
        session = services.sessions.open("anonymous", options)

        async def send(stream: LiveStream) -> None:
            for _ in range(2):
                stream.offer(picture)
            await stream.take()
            while session.state.frames_in < 2:
                await asyncio.sleep(0.001)

        client.portal.call(run_stream, client, session, send)
        answer = client.put(
            f"/v1/sessions/{session.id}/chunks/0", files={"frame": ("0.png", picture)}
        )
        assert answer.status_code == 200 and answer.headers["X-Frames-Out"] == "1"
    assert {shape[2] for shape in engine.shapes} == {256}


def test_frames_of_another_size_than_the_first_are_refused_in_their_order(client) -> None:
    services = client.app.state.services
    session = services.sessions.open("anonymous", SessionOptions(**LIVE))
    small, large = (encode(np.zeros((side, side, 3), np.uint8), "JPEG") for side in (64, 128))

    async def send(stream: LiveStream) -> list[dict]:
        stream.offer(large)
        stream.offer(small)
        facts = [(await stream.take()).facts for _ in range(2)]
        stream.offer(large)
        return [*facts, (await stream.take()).facts]

    facts = client.portal.call(run_stream, client, session, send)
    assert [one["frame"] for one in facts] == [0, 1, 2]
    assert ["problem" in one for one in facts] == [False, True, False]


def test_frame_that_is_refused_does_not_say_how_large_the_others_must_be() -> None:
    small, large = (encode(np.zeros((side, side, 3), np.uint8), "PNG") for side in (64, 1024))

    async def send(stream: LiveStream) -> list[dict]:
        stream.offer(large)
        facts = [(await stream.take()).facts]
        for _ in range(2):
            stream.offer(small)
        return [*facts, (await stream.take()).facts]

    with open_client(FakeEngine(), session_buffer_mb=1) as client:
        options = SessionOptions(packaging="frames", smoothing="ofd")
        session = client.app.state.services.sessions.open("anonymous", options)
        refused, answered = client.portal.call(run_stream, client, session, send)
    assert refused["problem"]["code"] == "media-limit-exceeded"
    assert "problem" not in answered and session.state.size == (64, 64)
