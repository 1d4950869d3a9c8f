"""Five times the load that the service can carry: what it carries stays what it was."""

import asyncio
import random
import time
from collections import Counter

import httpx
import pytest

from tests.gate.figures import FULL, choose, find_percentile, report
from tests.helpers import LiveServer

TIMES = 5


class Load:
    """Requests of a fixed rate whose arrivals do not wait for answers (Poisson)."""

    def __init__(self, server: LiveServer, image: bytes) -> None:
        self.client = httpx.AsyncClient(
            base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=None)
        )
        self.image = image
        self.times_s: dict[int, list[float]] = {}
        self.without_retry = 0
        self.broken = Counter[str]()

    async def send(self) -> None:
        start_s = time.monotonic()
        headers = {"Content-Type": "image/png"}
        try:
            response = await self.client.post(
                "/v1/image?ref_size=64", content=self.image, headers=headers
            )
        except httpx.HTTPError as error:
            self.broken[type(error).__name__] += 1
            return
        seconds = time.monotonic() - start_s
        self.times_s.setdefault(response.status_code, []).append(seconds)
        if response.status_code == 429 and "retry-after" not in response.headers:
            self.without_retry += 1

    async def run(self, rate: float, seconds: float) -> None:
        """Send `rate` requests a second, and return when all are answered."""
        chance, tasks = random.Random(1), set()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            task = asyncio.create_task(self.send())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(chance.expovariate(rate))
        await asyncio.gather(*tasks)

    def count(self, status: int) -> int:
        return len(self.times_s.get(status, ()))


async def measure_capacity(server: LiveServer, image: bytes, seconds: float) -> float:
    """Return answers a second with as many clients as the gate lets in, each waiting its turn."""
    load, end_s = Load(server, image), time.monotonic() + seconds

    async def keep_asking() -> None:
        while time.monotonic() < end_s:
            await load.send()

    await asyncio.gather(*(keep_asking() for _ in range(3)))
    await load.client.aclose()
    return load.count(200) / seconds


async def watch(server: LiveServer, times_s: list[float], end: asyncio.Event) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        while not end.is_set():
            start_s = time.monotonic()
            assert (await client.get("/livez")).status_code == 200
            times_s.append(time.monotonic() - start_s)
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_goodput_holds_under_five_times_the_load(live_server, portrait_jpeg: bytes) -> None:
    server = live_server(decoders=2, max_requests=4)
    # No thumbnail: five times as many of those would keep the cores busy with the client.
    image, seconds = portrait_jpeg, choose(6, 60)

    async def story() -> tuple[float, Load, list[float]]:
        capacity = await measure_capacity(server, image, seconds / 2)
        load, probes, end = Load(server, image), [], asyncio.Event()
        watching = asyncio.create_task(watch(server, probes, end))
        await load.run(TIMES * capacity, seconds)
        end.set()
        await watching
        await load.client.aclose()
        return capacity, load, probes

    capacity, load, probes = asyncio.run(story())
    goodput, refused = load.count(200) / seconds, load.times_s.get(429, [0.0])
    figures = {
        "capacity": f"{capacity:.1f} images/s",
        "load": f"{TIMES * capacity:.1f} images/s for {seconds} s",
        "goodput over capacity": f"{goodput / capacity:.2f}",
        "answers by status": {status: len(times) for status, times in load.times_s.items()},
        "refusals p99": f"{find_percentile(refused, 0.99) * 1000:.0f} ms",
        "`/livez` p99": f"{find_percentile(probes, 0.99) * 1000:.0f} ms",
    }
    report("overload", figures)
    assert set(load.times_s) == {200, 429} and not load.broken and not load.without_retry
    assert len(probes) > 1
    if FULL:  # figures of a machine of its own: the client shares the cores with the service
        assert goodput >= 0.9 * capacity
        assert find_percentile(refused, 0.99) <= 0.05
        assert find_percentile(probes, 0.99) <= 0.1
