"""The one helper that takes work on pixels off the event loop, and the times of its stages."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from service.metrics import STAGES, Metrics

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Threads for decoding (waiting for a child), resizing and encoding.

    The codecs, OpenCV and numpy let go of the interpreter lock, so threads are enough.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="media")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class StageTimes:
    """The stages of one request, in seconds; also observed in the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] += seconds
        self._metrics.stage_duration.labels(stage).observe(seconds)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start_s)

    @property
    def milliseconds(self) -> dict[str, float]:
        """All stages, those that did not run with 0."""
        return {name: seconds * 1000 for name, seconds in self._seconds.items()}
