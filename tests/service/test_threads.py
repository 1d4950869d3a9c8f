"""Threads carry the context of whoever starts them, and pixels do not wait behind files."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.frames.overlap import WriteBehind, read_ahead
from service.runtime import FILE_THREADS
from service.threads import TooLate, Workers, check_time, start_in, wait_for_thread
from tests.fakes import FakeEngine

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def test_context_goes_into_every_kind_of_thread() -> None:
    async def run() -> list[str]:
        NAME.set("caller")
        workers, pool = Workers(1, "test"), ThreadPoolExecutor(1)
        found = [await workers.run(NAME.get), await start_in(pool, NAME.get)]
        workers.close()
        pool.shutdown()
        return found

    assert asyncio.run(run()) == ["caller", "caller"]
    NAME.set("reader")
    assert list(read_ahead((NAME.get() for _ in range(2)), 1)) == ["reader"] * 2
    seen: list[str] = []
    with WriteBehind(lambda item: seen.append(NAME.get()), 1) as sink:
        sink.put(1)
    assert seen == ["reader"]


def test_pixels_do_not_wait_behind_files(make_client) -> None:
    """All threads for files are busy, and those for pixels are free."""
    client = make_client(FakeEngine())
    runtime = client.app.state.services.runtime
    release = threading.Event()

    async def block() -> list[asyncio.Task]:
        return [asyncio.ensure_future(runtime.files.run(release.wait)) for _ in range(FILE_THREADS)]

    async def resize() -> str:
        return await runtime.workers.run(threading.current_thread().name.__str__)

    blocked = client.portal.call(block)
    try:
        assert client.portal.call(resize)
    finally:
        release.set()
    assert len(blocked) == FILE_THREADS


def test_cancelled_waiter_waits_for_its_thread() -> None:
    async def run() -> list[str]:
        log: list[str] = []
        release = threading.Event()

        def work() -> None:
            release.wait(60)
            log.append("thread ended")

        with ThreadPoolExecutor(1) as pool:
            task = asyncio.ensure_future(wait_for_thread(start_in(pool, work), release.set))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            log.append("waiter ended")
        return log

    assert asyncio.run(run()) == ["thread ended", "waiter ended"]


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_work_whose_caller_is_gone_or_late_ends_by_itself(is_cancelled: bool) -> None:
    async def run() -> None:
        workers, has_begun, has_ended = Workers(1, "test"), threading.Event(), threading.Event()

        def work(is_late) -> None:
            has_begun.set()
            try:
                while True:
                    check_time(is_late)
            finally:
                has_ended.set()

        deadline_s = time.monotonic() + (1000 if is_cancelled else 0.01)
        task = asyncio.create_task(workers.run_until(deadline_s, work))
        await asyncio.to_thread(has_begun.wait, 60)
        if is_cancelled:
            task.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else TooLate):
            await task
        assert await asyncio.to_thread(has_ended.wait, 60)
        workers.close()

    asyncio.run(run())
