"""Slots for clips in progress: requests are refused when none is free, jobs wait."""

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from service.errors import Overloaded
from service.metrics import Metrics


class VideoSlots:
    """At most `count` videos at once, each with a thread of its own in `threads`."""

    def __init__(self, count: int, metrics: Metrics) -> None:
        self.count = count
        self.taken = 0
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="video")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._metrics = metrics

    def check(self) -> None:
        """Raise Overloaded when no place is free."""
        if self.taken >= self.count:
            self._metrics.requests_rejected.labels("overloaded").inc()
            raise Overloaded(
                f"{self.taken} videos are in progress, the limit is {self.count}",
                hint="send the video again after Retry-After seconds, or as a job: "
                "`Prefer: respond-async`",
                limit=self.count,
                actual=self.taken,
                retry_after_s=10,
            )

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold one place for the `with` block; raises Overloaded."""
        self.check()
        self.taken += 1
        try:
            yield
        finally:
            self.leave()

    async def wait(self) -> None:
        """Wait for a place, first come first served, and hold it until `leave`."""
        if self.taken < self.count:
            self.taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:  # it was given the place in the same moment
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back, to the one who has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self.taken -= 1
