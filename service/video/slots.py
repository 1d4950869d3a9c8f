"""Places for videos in progress; none free means 429, never a queue."""

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
        self._metrics = metrics

    def check(self) -> None:
        """Raise Overloaded when no place is free."""
        if self.taken >= self.count:
            self._metrics.requests_rejected.labels("overloaded").inc()
            raise Overloaded(
                f"{self.taken} videos are in progress, the limit is {self.count}",
                hint="send the video again after Retry-After seconds",
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
            self.taken -= 1
