"""Thread pools for blocking work, and cancellation that waits for the thread."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

IsLate = Callable[[], bool]
P = ParamSpec("P")
T = TypeVar("T")


class TooLate(Exception):
    """Nobody waits for the result any more."""


def never() -> bool:
    """Say that a result is waited for, however long it takes."""
    return False


def check_time(is_late: IsLate) -> None:
    """Raise TooLate when `is_late` says so; for work of seconds, several times a second."""
    if is_late():
        raise TooLate


def start_in(
    pool: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> asyncio.Future[T]:
    """Start a call in a thread of `pool`, with the context variables of the caller."""
    context = contextvars.copy_context()
    call = partial(context.run, function, *args, **kwargs)
    return asyncio.get_running_loop().run_in_executor(pool, call)


def make_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Return a thread that will have the context variables of the caller."""
    context = contextvars.copy_context()
    return threading.Thread(target=context.run, args=(target,), name=name)


class Workers:
    """A pool of threads for one kind of blocking work.

    Pixels (waiting for a decoder, resizing, encoding) and files (reading, writing, fsync) have a
    pool each, so that neither waits behind the other. The codecs, OpenCV, numpy and the disk let go
    of the interpreter lock, so threads are enough.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await start_in(self._pool, function, *args, **kwargs)

    async def run_until(self, deadline_s: float, function: Callable[[IsLate], T]) -> T:
        """Run a function that asks now and then whether its result is still of use.

        It is not when `deadline_s` of the monotonic clock is over, nor when the caller was
        cancelled. Raises TooLate, if the function does.
        """
        is_left = threading.Event()

        def is_late() -> bool:
            return is_left.is_set() or time.monotonic() > deadline_s

        try:
            return await self.run(function, is_late)
        finally:
            is_left.set()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def wait_for_thread(
    work: Coroutine[Any, Any, T] | asyncio.Future[T],
    on_cancel: Callable[[], object] = lambda: None,
) -> T:
    """Return the result of what a thread does; cancelled, it waits for the thread all the same.

    `on_cancel` tells the thread that nobody needs its result any more.
    """
    run = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        on_cancel()
        while not run.done():  # whoever cancels a second time waits, too
            with suppress(asyncio.CancelledError):
                await asyncio.wait([run])
        if not run.cancelled():
            run.exception()  # nobody else will look at it
        raise
