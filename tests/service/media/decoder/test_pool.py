import asyncio
import os
import signal
import time

import psutil
import pytest

from service.errors import UnsupportedMedia
from service.media.decoder.pool import IDLE_S, MAX_ITEMS, DecoderPool
from service.metrics import Metrics
from service.settings import Settings
from service.threads import Workers
from tests.helpers import list_decoders, wait_until
from tests.hostile import make_flat_png, make_slowest_jpeg


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run_with_pool(story, clock=time.monotonic, **settings):
    """Run the coroutine function `story(pool, metrics)` with a started pool."""

    async def main():
        metrics = Metrics()
        pool = DecoderPool(Settings(**settings), metrics, stills=1, videos=1, clock=clock)
        await pool.start()
        try:
            await story(pool, metrics)
        finally:
            await pool.aclose()

    asyncio.run(main())


def count_restarts(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("matting_decoder_restarts_total")


def test_pool_lends_the_same_child_again():
    async def story(pool, metrics):
        pids = set()
        for _ in range(3):
            async with pool.borrow("still") as child:
                pids.add(child.pid)
        assert len(pids) == 1 and count_restarts(metrics) == 0

    run_with_pool(story)


def test_clip_and_the_one_behind_it_have_a_child_each():
    """With one place for videos, which a pool of one count for both would never let work."""

    async def story(pool, metrics):
        async with asyncio.timeout(30):
            async with pool.borrow("video") as front, pool.borrow("background") as behind:
                assert front.pid != behind.pid
                async with pool.borrow("still") as still:
                    assert still.pid not in (front.pid, behind.pid)

    run_with_pool(story)


def test_pool_replaces_an_idle_child_that_died(portrait_jpeg):
    async def story(pool, metrics):
        async with pool.borrow("still") as child:
            pid = child.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid))
        async with pool.borrow("still") as child:
            assert child.pid != pid
            assert child.open_image(portrait_jpeg).width == 512
        assert count_restarts(metrics) == 1

    run_with_pool(story)


def test_pool_takes_back_a_child_after_an_error_of_the_file():
    async def story(pool, metrics):
        with pytest.raises(UnsupportedMedia):
            async with pool.borrow("still") as child:
                pid = child.pid
                child.open_image(b"text")
        async with pool.borrow("still") as child:
            assert child.pid == pid

    run_with_pool(story)


def test_cancelled_borrower_never_returns_its_child():
    """Its thread may still be talking to the child; the next one must not hear that answer."""

    async def story(pool, metrics):
        workers, pids = Workers(2, "test"), []

        async def decode():
            async with pool.borrow("still") as child:
                pids.append(child.pid)
                await workers.run(child.open_image, make_slowest_jpeg())
                await workers.run(child.decode_image)

        task = asyncio.create_task(decode())
        while not pids or psutil.Process(pids[0]).cpu_times().user < 0.6:
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with pool.borrow("still") as child:
            assert child.pid != pids[0]
            info = await workers.run(child.open_image, make_flat_png(30, 20))
            assert (info.width, info.height) == (30, 20)
        await asyncio.to_thread(wait_until, lambda: has_ended(pids[0]))
        workers.close()

    run_with_pool(story)


def test_caller_cancelled_while_its_child_starts_leaves_no_process():
    async def story(pool, metrics):
        async with pool.borrow("still") as child:
            child.broken = True  # the pool is empty afterwards
        await asyncio.to_thread(wait_until, lambda: not psutil.pid_exists(child.pid))
        before = list_decoders()

        async def borrow():
            async with pool.borrow("still"):
                raise AssertionError("the borrower was cancelled")

        task = asyncio.create_task(borrow())
        await asyncio.sleep(0)
        # The loop stands still here, so the task cannot hear that its child has started.
        started = wait_until(lambda: list_decoders() - before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with pool.borrow("still") as child:
            kept = {child.pid}  # nothing is lost when the child went to the pool
            lost = {process for process in started if process.pid not in kept}
            await asyncio.to_thread(wait_until, lambda: not lost & list_decoders())

    run_with_pool(story)


def test_stills_and_videos_have_places_of_their_own():
    async def story(pool, metrics):
        async with pool.borrow("video"), pool.borrow("still") as still:
            assert still.is_alive()
            third = asyncio.create_task(pool.borrow("still").__aenter__())
            done, _ = await asyncio.wait([third], timeout=0.05)
            assert not done, "the second still must wait for the first"
            third.cancel()
            await asyncio.gather(third, return_exceptions=True)

    run_with_pool(story)


def test_closed_pool_leaves_no_process():
    pids = []

    async def story(pool, metrics):
        async with pool.borrow("still") as one, pool.borrow("video") as two:
            pids.extend([one.pid, two.pid])

    run_with_pool(story)
    assert len(pids) == 2 and not any(map(psutil.pid_exists, pids))


def test_child_that_clips_no_longer_need_ends():
    now_s = [0.0]

    async def story(pool, metrics):
        async with pool.borrow("still") as kept, pool.borrow("video") as extra:
            pass
        pool.trim()
        now_s[0] = IDLE_S - 1
        pool.trim()
        assert kept.is_alive() and extra.is_alive()
        now_s[0] = IDLE_S
        pool.trim()
        await asyncio.to_thread(wait_until, lambda: kept.is_alive() != extra.is_alive())
        now_s[0] = 10 * IDLE_S
        pool.trim()
        async with pool.borrow("still") as child:
            assert child in (kept, extra) and child.is_alive()
        assert count_restarts(metrics) == 0

    run_with_pool(story, clock=lambda: now_s[0])


def test_child_is_replaced_after_very_many_files():
    async def story(pool, metrics):
        async with pool.borrow("still") as child:
            child.items = MAX_ITEMS - 1
        async with pool.borrow("still") as same:
            assert same is child
            with pytest.raises(UnsupportedMedia):
                same.open_image(b"text")
        async with pool.borrow("still") as fresh:
            assert fresh.pid != child.pid and fresh.items == 0
        assert count_restarts(metrics) == 0

    run_with_pool(story)
