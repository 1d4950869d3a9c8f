"""Two runs of the network side by side, where that is faster than one after another."""

import asyncio
import threading

import numpy as np
import pytest

from service.inference.batcher import InferenceFailed
from service.inference.engine import OUT_OF_MEMORY, InferenceError, OnnxEngine
from service.inference.fair_queue import Caller
from service.inference.lanes import LANES
from service.settings import Settings
from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import wait_until
from tests.service.inference.test_batcher import run, settle

LIVE = Caller("live", "a")


class Meeting(FakeEngine):
    """An engine whose runs wait until LANES of them are inside."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(LANES)

    def run(self, batch):
        alphas = super().run(batch)
        self.barrier.wait(60)
        return alphas


class Pair(BlockedEngine):
    """An engine with another one for runs side by side; `opens` counts how often it was asked."""

    def __init__(self, beside) -> None:
        super().__init__()
        self.beside, self.opens = beside, 0

    def open_beside(self, lanes):
        self.opens += 1
        if isinstance(self.beside, Exception):
            raise self.beside
        return self.beside


async def open_lanes(bench) -> None:
    """Have two pictures wait at once, so that the engine for runs side by side is opened."""
    first, second = await bench.block(), bench.put(-2)
    await settle()
    bench.engine.release.set()
    await asyncio.gather(first, second)
    await bench.batcher._lanes.aclose()
    bench.engine.batches.clear()


def test_pictures_that_wait_together_run_side_by_side():
    async def story(bench):
        await open_lanes(bench)
        await asyncio.gather(*(bench.put(number) for number in range(4)))
        assert sorted(bench.engine.beside.batches) == [[0], [1], [2], [3]]
        assert bench.engine.batches == [] and bench.engine.opens == 1
        assert bench.batcher.run_s == 0

    run(story, Pair(Meeting()))


def test_picture_alone_has_all_cores_and_opens_nothing():
    async def story(bench):
        bench.engine.release.set()
        for number in range(3):
            await bench.put(number)
        assert bench.engine.batches == [[0], [1], [2]] and bench.engine.opens == 0

    run(story, Pair(FakeEngine()))


def test_live_frame_leaves_a_core_to_what_is_done_beside_it():
    async def story(bench):
        bench.engine.release.set()
        await bench.put(0, caller=LIVE)
        await bench.batcher._lanes.aclose()
        await bench.put(1, caller=LIVE)
        assert bench.engine.batches == [[0]] and bench.engine.beside.batches == [[1]]

    run(story, Pair(FakeEngine()))


def test_run_on_all_cores_is_over_before_others_begin():
    async def story(bench):
        await open_lanes(bench)
        bench.engine.release.clear()
        bench.engine.entered.clear()
        first = await bench.block()
        others = [bench.put(number) for number in range(2)]
        await settle()
        assert bench.engine.beside.batches == []
        bench.engine.release.set()
        await asyncio.gather(first, *others)
        assert bench.engine.batches == [[-1]]
        assert sorted(bench.engine.beside.batches) == [[0], [1]]

    run(story, Pair(Meeting()))


def test_no_more_runs_begin_than_there_are_lanes():
    beside = BlockedEngine()

    async def story(bench):
        await open_lanes(bench)
        tasks = [bench.put(number) for number in range(LANES + 2)]
        await asyncio.to_thread(wait_until, lambda: len(beside.batches) == LANES)
        await settle()
        assert len(beside.batches) == LANES and bench.read("queue_depth") == 2
        beside.release.set()
        await asyncio.gather(*tasks)

    try:
        run(story, Pair(beside))
    finally:
        beside.release.set()


@pytest.mark.parametrize("beside", [None, RuntimeError("no memory for another one")])
def test_where_none_can_be_had_runs_stay_one_after_another(beside):
    async def story(bench):
        await open_lanes(bench)
        await asyncio.gather(*(bench.put(number) for number in range(3)))
        assert bench.engine.batches == [[0], [1], [2]] and bench.engine.opens == 1

    run(story, Pair(beside))


def test_memory_that_runs_out_ends_runs_side_by_side_and_loses_nothing():
    def fail(batch):
        raise InferenceError(OUT_OF_MEMORY, "no room")

    async def story(bench):
        await open_lanes(bench)
        tasks = [bench.put(number) for number in range(2)]
        mattes = await asyncio.gather(*tasks)
        assert [matte.alpha.shape for matte in mattes] == [(32, 32)] * 2
        assert sorted(bench.engine.batches) == [[0], [1]]
        await asyncio.gather(bench.put(2), bench.put(3))
        assert bench.engine.batches[2:] == [[2], [3]] and bench.engine.max_batch_size == 1

    run(story, Pair(FakeEngine(fail)))


def test_run_that_fails_side_by_side_fails_its_own_picture_alone():
    def fail_on_one(batch):
        if (batch == 1).any():
            raise InferenceError("runtime", "one")
        return np.ones((len(batch), 32, 32), np.float32)

    async def story(bench):
        await open_lanes(bench)
        results = await asyncio.gather(
            *(bench.put(number) for number in range(3)), return_exceptions=True
        )
        assert [isinstance(result, InferenceFailed) for result in results] == [False, True, False]

    run(story, Pair(FakeEngine(fail_on_one)))


def test_real_network_answers_the_same_side_by_side():
    engine = OnnxEngine(Settings(threads=2))
    beside = engine.open_beside(2)
    assert beside is not None and beside.provider == engine.provider
    pictures = np.random.default_rng(0).random((2, 1, 3, 96, 160), np.float32)
    alone = [engine.run(picture) for picture in pictures]

    async def run_both():
        runs = (asyncio.to_thread(beside.run, picture) for picture in pictures)
        return await asyncio.gather(*runs)

    np.testing.assert_allclose(asyncio.run(run_both()), alone, atol=1e-5)


def test_one_core_has_no_runs_side_by_side():
    assert OnnxEngine(Settings(threads=1)).open_beside(2) is None
