"""Frames of a live connection on their way: what waits, what is dropped, what the times say."""

import asyncio
from collections.abc import Iterator

import pytest

from service.metrics import Metrics
from service.sessions.live import Inbox, LiveFrame, LiveStream, Rendezvous
from service.sessions.options import SessionOptions
from tests.fakes import FakeEngine
from tests.sessions import Clock, number_picture


@pytest.fixture(scope="module")
def client() -> Iterator:
    from tests.conftest import open_client

    with open_client(FakeEngine()) as opened:
        yield opened


def test_inbox_holds_two_and_counts_what_it_drops() -> None:
    async def fill_and_empty() -> list[int]:
        metrics = Metrics()
        inbox = Inbox(metrics)
        for number in range(5):
            inbox.put(LiveFrame(number, 0.0))
        assert inbox.dropped == metrics.frames_dropped._value.get() == 3
        return [(await inbox.take()).number for _ in range(2)]

    assert asyncio.run(fill_and_empty()) == [3, 4]


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


@pytest.mark.parametrize("smoothing", ["ofd", "off"])
def test_latency_goes_from_arrival_to_the_answer_and_rate_counts_answers(
    client, smoothing: str
) -> None:
    """Frames come half a second apart; with smoothing each waits for the next one."""
    services = client.app.state.services

    async def run() -> list[tuple[int, float, float]]:
        clock = Clock()
        options = SessionOptions(packaging="frames", smoothing=smoothing)
        session = services.sessions.open("anonymous", options)
        stream = LiveStream(services.runtime, session, clock=clock)
        tasks = [
            asyncio.create_task(work) for work in (stream.matte_frames(), stream.render_frames())
        ]
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return found

    found = client.portal.call(run)
    late_ms = 500.0 if smoothing == "ofd" else 0.0
    rates = [0.0] + [2.0] * (len(found) - 1)
    assert found == [(number, late_ms, rate) for number, rate in enumerate(rates)]
