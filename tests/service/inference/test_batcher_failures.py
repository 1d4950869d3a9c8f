"""Runs that fail, hang or answer nonsense, and the end of a batcher."""

import asyncio

import numpy as np
import pytest

from service.errors import DeadlineExceeded, Draining
from service.inference.batcher import InferenceFailed
from service.inference.engine import InferenceError
from service.inference.watchdog import watch_network
from tests.fakes import BlockedEngine, BrokenEngine, FakeEngine, opaque
from tests.service.inference.test_batcher import Bench, picture, run, settle


@pytest.mark.parametrize(
    "error, kind",
    [(InferenceError("runtime", "secret"), "runtime"), (KeyError("secret"), "unforeseen")],
)
def test_failing_single_is_an_error_and_the_loop_lives(error, kind):
    async def story(bench):
        with pytest.raises(InferenceFailed) as caught:
            await bench.put(1)
        assert "secret" not in caught.value.detail and caught.value.status == 500
        assert kind in bench.health.not_ready_reason()
        assert bench.read("inference_failures_total", kind=kind) == 1
        bench.engine.broken = False
        assert (await bench.put(2)).alpha.shape == (32, 32)
        assert bench.health.not_ready_reason() is None

    run(story, BrokenEngine(error))


@pytest.mark.parametrize(
    "answer",
    [
        lambda batch: opaque(batch)[:, :16],
        lambda batch: opaque(batch)[:0],
        lambda batch: np.concatenate([opaque(batch), opaque(batch)]),
        lambda batch: None,
    ],
    ids=["smaller", "none", "twice", "nothing"],
)
def test_answer_of_wrong_shape_is_an_error_and_the_loop_lives(answer):
    async def story(bench):
        with pytest.raises(InferenceFailed):
            await bench.put(1)
        bench.engine.answer = opaque
        await bench.put(2)

    run(story, FakeEngine(answer))


def test_close_fails_what_waits_and_finishes_what_runs():
    async def story(bench):
        running = await bench.block()
        waiting = [bench.put(1), bench.put(2, 64, 64)]
        await settle()
        closing = asyncio.create_task(bench.batcher.aclose())
        await settle()
        bench.engine.release.set()
        await closing
        assert (await running).alpha.shape == (32, 32)
        for task in waiting:
            with pytest.raises(Draining):
                await task
        with pytest.raises(Draining):
            await bench.batcher.infer(picture(3), timeout_s=1)
        assert bench.engine.batches == [[-1]]

    run(story, BlockedEngine())


def test_close_of_an_idle_batcher_ends_at_once():
    async def story(bench):
        await settle()
        await asyncio.wait_for(bench.batcher.aclose(), 5)

    run(story, FakeEngine())


def test_deadline_holds_while_a_run_hangs():
    async def story():
        bench = Bench(BlockedEngine())
        running = await bench.block()
        late = bench.put(1, timeout_s=0.05)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(late, 10)
        assert not running.done() and bench.batcher.run_s > 0
        bench.engine.release.set()
        await running
        assert bench.batcher.run_s == 0
        await bench.batcher.aclose()
        assert bench.engine.batches == [[-1.0]], "nobody waits for the late one any more"

    asyncio.run(story())


def test_watchdog_calls_when_a_run_does_not_end():
    async def story():
        bench, calls = Bench(BlockedEngine()), []
        running = await bench.block()
        await asyncio.wait_for(
            watch_network(bench.batcher, bench.health, 0.05, lambda: calls.append("stall")), 10
        )
        assert calls == ["stall"] and bench.health.not_ready_reason() == "the network hangs"
        bench.engine.release.set()
        await running
        await bench.batcher.aclose()

    asyncio.run(story())
