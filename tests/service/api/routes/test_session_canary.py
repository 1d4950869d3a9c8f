"""No pixel of one session ever shows in another: each has a colour of its own."""

import asyncio
import itertools
import logging
import random

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.inference.engine import InferenceError
from service.sessions.answers import PREFIX
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.helpers import encode
from tests.sessions import encode_multipart, read_parts

SESSIONS = 64
SIDE = 32


class IdentityEngine(FakeEngine):
    """The matte is the picture's red; now and then a batch fails and is run again one by one."""

    def __init__(self) -> None:
        super().__init__(lambda batch: batch[:, 0] * 0.5 + 0.5, max_batch_size=8)
        self.largest = self.failures = 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        alphas = self.answer(batch)
        self.largest = max(self.largest, len(batch))
        if len(batch) > 1 and random.random() < 0.05:
            self.failures += 1
            raise InferenceError("runtime", "on purpose")
        return alphas


class Canary:
    """One client that sends its colour: red names the session, green and blue the frame."""

    def __init__(self, client: httpx.AsyncClient, red: int, frames: int, chunk: int) -> None:
        self.client = client
        self.red = red
        self.frames = frames
        self.chunk = chunk
        self.random = random.Random(red)
        self.checked = self.foreign = 0  # pixels

    def make_picture(self, number: int) -> bytes:
        colour = (self.red, number % 256, number // 256)
        return encode(np.full((SIDE, SIDE, 3), colour, np.uint8), "PNG", compress_level=1)

    async def run(self) -> None:
        """Send all frames; begin anew, with the next numbers, when the session is dropped."""
        number = 0
        while number < self.frames:
            number = await self.run_session(number)

    async def run_session(self, first: int) -> int:
        """Send frames from `first` on and check what comes; return the number after the last."""
        options = {"output": "cutout", "packaging": "frames", "refine": "off", "foreground": "off"}
        opened = await self.client.post("/v1/sessions", json=options)
        assert opened.status_code == 201, opened.text
        path = f"/v1/sessions/{opened.json()['id']}"
        number, expected = first, itertools.count(first)
        for sequence in itertools.count():
            if number >= self.frames or (sequence and self.random.random() < 0.1):
                break
            size = min(self.random.randint(1, self.chunk), self.frames - number)
            chunk = [self.make_picture(number + index) for index in range(size)]
            await self.disturb(path, sequence, chunk)
            number += size
            self.check(await self.put(path, sequence, chunk), expected)
            if self.random.random() < 0.2:
                again = await self.put(path, sequence, chunk)
                self.check(again, itertools.count(number - len(read_parts(again)) - 1))
        if self.random.random() < 0.5:
            self.check(await self.client.post(f"{path}/finish"), expected)
        assert (await self.client.delete(path)).status_code == 204
        return number

    async def disturb(self, path: str, sequence: int, chunk: list[bytes]) -> None:
        """Now and then send what is refused."""
        if self.random.random() < 0.1:
            refused = await self.put(path, sequence, [*chunk, b"no picture"])
            assert refused.status_code == 422
        if self.random.random() < 0.1:
            assert (await self.put(path, sequence + 1, chunk)).status_code == 409

    async def put(self, path: str, sequence: int, chunk: list[bytes]) -> httpx.Response:
        body, kind = encode_multipart(chunk)
        headers = {"Content-Type": kind.decode()}
        url = f"{path}/chunks/{sequence}"
        while (answer := await self.client.put(url, content=body, headers=headers)).is_error:
            if answer.status_code != 429:  # 64 senders wait for four places
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
        return answer

    def check(self, response: httpx.Response, numbers: itertools.count) -> None:
        assert response.status_code == 200, response.text
        for part in read_parts(response):
            number = next(numbers)
            pixel = (self.red, number % 256, number // 256, self.red)
            self.checked += SIDE * SIDE
            self.foreign += int(np.any(part.image != pixel, axis=2).sum())


async def fly(engine: FakeEngine, folder, frames: int, chunk: int) -> tuple[int, int]:
    """Run all canaries at once in one app; return how many pixels they saw, and foreign ones."""
    settings = Settings(
        data_dir=folder,
        device="cpu",
        decoders=1,
        max_sessions=SESSIONS,
        max_sessions_per_key=SESSIONS,
        session_disk_mb=1,  # so that kept answers are evicted all the time
    )
    app = create_app(settings, engine)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client,
    ):
        canaries = [Canary(client, 60 + 2 * index, frames, chunk) for index in range(SESSIONS)]
        await asyncio.gather(*(canary.run() for canary in canaries))
        assert app.state.services.sessions.buffer_bytes == 0
        assert app.state.services.sessions.answers.size_bytes == 0
    assert list(folder.glob(f"{PREFIX}*")) == []
    return sum(one.checked for one in canaries), sum(one.foreign for one in canaries)


@pytest.mark.parametrize(
    ("frames", "chunk"),
    [
        (16, 4),
        pytest.param(10_000, 100, marks=[pytest.mark.slow, pytest.mark.timeout(5400)]),
    ],
)
def test_no_pixel_of_another_session_is_ever_seen(
    tmp_path, caplog, frames: int, chunk: int
) -> None:
    # Thousands of batches fail on purpose, and pytest would keep each traceback with its pictures.
    caplog.set_level(logging.CRITICAL, "service.inference.batcher")
    engine = IdentityEngine()
    checked, foreign = asyncio.run(fly(engine, tmp_path, frames, chunk))
    assert foreign == 0 and checked > 0.5 * SESSIONS * frames * SIDE * SIDE
    assert engine.largest > 1 and engine.failures > 0, "batches were shared, and some failed"


def test_canary_sees_a_foreign_pixel(tmp_path) -> None:
    """An engine that mixes up the pictures of a batch must be caught."""
    mixed = FakeEngine(lambda batch: np.roll(batch[:, 0] * 0.5 + 0.5, 1, axis=0), max_batch_size=8)
    _, foreign = asyncio.run(fly(mixed, tmp_path, 4, 4))
    assert foreign > 0
