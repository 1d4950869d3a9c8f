import asyncio
import contextlib

import numpy as np
import pytest

from service.errors import DeadlineExceeded
from service.inference.batcher import Batcher
from service.inference.engine import InferenceError
from service.inference.fair_queue import Caller
from service.inference.health import Health
from service.metrics import Metrics
from tests.fakes import BlockedEngine, FakeEngine, opaque


def picture(number: float, height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((3, height, width), number, np.float32)


class Bench:
    """A started batcher with everything around it that a test may look at."""

    def __init__(self, engine, clock=None):
        self.engine, self.health, self.metrics = engine, Health(started=True), Metrics()
        more = {} if clock is None else {"clock": clock}
        self.batcher = Batcher(engine, self.metrics, self.health, **more)
        self.batcher.start()

    def put(self, number: float, *size: int, timeout_s: float = 60, **more) -> asyncio.Task:
        matte = self.batcher.infer(picture(number, *size), timeout_s=timeout_s, **more)
        return asyncio.create_task(matte)

    async def block(self, number: float = -1, *size: int) -> asyncio.Task:
        """Put a picture and return when the engine is busy with it: what comes now must wait."""
        task = self.put(number, *size)
        await asyncio.to_thread(self.engine.entered.wait, 10)
        return task

    def read(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"matting_{name}", labels)


def run(story, engine, **more):
    async def main():
        bench = Bench(engine, **more)
        try:
            await asyncio.wait_for(story(bench), 30)
        finally:
            with contextlib.suppress(AttributeError):
                engine.release.set()
            await bench.batcher.aclose()

    asyncio.run(main())


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_each_caller_gets_its_own_matte():
    def echo(batch):
        return batch[:, 0]

    async def story(bench):
        mattes = await asyncio.gather(*(bench.put(n / 10) for n in range(8)))
        for number, matte in enumerate(mattes):
            np.testing.assert_allclose(matte.alpha, number / 10)
            assert matte.alpha.shape == (32, 32) and matte.queue_s >= 0 and matte.inference_s >= 0

    run(story, FakeEngine(echo, max_batch_size=3))


def test_free_engine_takes_all_that_waits_and_no_more_than_its_batch_size():
    async def story(bench):
        tasks = [await bench.block()]
        tasks += [bench.put(number) for number in range(6)]
        await settle()
        assert bench.read("queue_depth") == 6
        bench.engine.release.set()
        mattes = await asyncio.gather(*tasks)
        assert bench.engine.batches == [[-1], [0, 1, 2, 3], [4, 5]]
        assert [round(matte.inference_s / matte.share_s) for matte in mattes] == [1, *[4] * 4, 2, 2]
        assert bench.read("queue_depth") == 0
        assert bench.read("batch_size_sum") == 7 and bench.read("batch_size_count") == 3

    run(story, BlockedEngine(max_batch_size=4))


def test_free_engine_does_not_wait_for_a_full_batch():
    async def story(bench):
        await bench.put(1)
        assert bench.engine.batches == [[1]]

    run(story, FakeEngine(max_batch_size=8))


def test_shapes_are_never_mixed_and_the_oldest_goes_first():
    async def story(bench):
        tasks = [await bench.block()]
        for number, size in enumerate([(32, 64), (64, 32), (32, 64), (64, 32), (32, 64)]):
            tasks.append(bench.put(number, *size))
            await settle()
        bench.engine.release.set()
        await asyncio.gather(*tasks)
        assert bench.engine.batches == [[-1], [0, 2, 4], [1, 3]]
        assert bench.engine.shapes[1:] == [(3, 3, 32, 64), (2, 3, 64, 32)]

    run(story, BlockedEngine(max_batch_size=8))


def test_rare_shape_is_not_starved_by_a_steady_one():
    async def story(bench):
        tasks = [await bench.block()]
        for number, size in enumerate([(32, 32), (64, 64), (32, 32), (32, 32)]):
            tasks.append(bench.put(number, *size))
            await settle()
        bench.engine.release.set()
        await asyncio.gather(*tasks)
        assert bench.engine.batches == [[-1], [0], [1], [2], [3]]

    run(story, BlockedEngine(max_batch_size=1))


def test_cancelled_entry_never_reaches_the_engine():
    async def story(bench):
        first = await bench.block()
        kept, left = bench.put(1), bench.put(2)
        await settle()
        assert bench.read("queue_depth") == 2
        left.cancel()
        await settle()
        assert bench.read("queue_depth") == 1, "it has left the queue, not only been marked"
        bench.engine.release.set()
        await asyncio.gather(first, kept)
        with pytest.raises(asyncio.CancelledError):
            await left
        assert bench.engine.batches == [[-1], [1]]

    run(story, BlockedEngine(max_batch_size=8))


def test_live_frames_overtake_and_owners_take_turns():
    async def story(bench):
        tasks = [await bench.block()]
        for number, caller in enumerate(
            [Caller("clip", "a"), Caller("clip", "a"), Caller("clip", "b"), Caller("live", "c")]
        ):
            tasks.append(bench.put(number, caller=caller))
            await settle()
        bench.engine.release.set()
        await asyncio.gather(*tasks)
        assert bench.engine.batches == [[-1], [3], [0], [2], [1]]

    run(story, BlockedEngine(max_batch_size=1))


def test_entry_cancelled_while_it_runs_leaves_the_others_alone():
    async def story(bench):
        left = await bench.block()
        kept = bench.put(1)
        left.cancel()
        await settle()
        bench.engine.release.set()
        assert (await kept).alpha.shape == (32, 32)

    run(story, BlockedEngine())


def test_entry_after_its_deadline_is_refused_without_running():
    now = [100.0]

    async def story(bench):
        first = await bench.block()
        late, early = bench.put(1, timeout_s=5), bench.put(2, timeout_s=50)
        await settle()
        now[0] += 6
        bench.engine.release.set()
        await asyncio.gather(first, early)
        with pytest.raises(DeadlineExceeded, match="6.0 s"):
            await late
        assert bench.engine.batches == [[-1], [2]]

    run(story, BlockedEngine(), clock=lambda: now[0])


def test_failing_batch_is_run_again_one_by_one():
    """One picture that the network cannot do must not fail its neighbours."""

    def fail_on_two(batch):
        if (batch == 2).any():
            raise InferenceError("runtime", "two")
        return opaque(batch)

    async def story(bench):
        first = await bench.block()
        tasks = [bench.put(number) for number in range(4)]
        await settle()
        bench.engine.answer = fail_on_two
        bench.engine.release.set()
        await first
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert bench.engine.batches == [[-1], [0, 1, 2, 3], [0], [1], [2], [3]]
        assert [type(result).__name__ for result in results] == [
            "Matte",
            "Matte",
            "InferenceFailed",
            "Matte",
        ]
        assert bench.health.not_ready_reason() is None, "the last run was good"
        assert bench.read("inference_failures_total", kind="runtime") == 2

    run(story, BlockedEngine(max_batch_size=4))


def test_entry_cancelled_before_its_second_try_is_not_run_again():
    async def story(bench):
        first = await bench.block()
        tasks = [bench.put(number) for number in range(3)]
        await settle()

        def fail(batch):
            if len(batch) > 1:
                bench_loop.call_soon_threadsafe(tasks[1].cancel)
                raise InferenceError("runtime", "all")
            return opaque(batch)

        bench_loop = asyncio.get_running_loop()
        bench.engine.answer = fail
        bench.engine.release.set()
        await first
        await asyncio.gather(*tasks, return_exceptions=True)
        assert bench.engine.batches == [[-1], [0, 1, 2], [0], [2]]

    run(story, BlockedEngine(max_batch_size=4))
