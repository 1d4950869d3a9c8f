"""Reader and writer threads with bounded queues, so that stages overlap."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Generic, TypeVar

from service.threads import make_thread

T = TypeVar("T")
# How long a blocked side sleeps before it looks whether the other one is still there.
_POLL_S = 0.1


def read_ahead(items: Iterable[T], size: int) -> Generator[T]:
    """Yield `items`, produced in a thread of their own, at most `size` of them waiting.

    An exception of the producer is raised here. Closing the generator stops the producer at its
    next item and waits for it.
    """
    waiting: queue.Queue[T | BaseException | None] = queue.Queue(size)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # handed over, whatever it is
            put(error)

    thread = make_thread(produce, "video-reader")
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


class WriteBehind(Generic[T]):
    """Consumes items in a thread of its own, at most `size` of them waiting.

    An exception of the consumer is raised by the next `put` or at the end of the `with` block.
    Leaving the block with an exception drops what waits.
    """

    def __init__(self, consume: Callable[[T], None], size: int) -> None:
        self._consume = consume
        self._waiting: queue.Queue[T | None] = queue.Queue(size)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = make_thread(self._work, "video-writer")

    def put(self, item: T) -> None:
        self._put(item)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "WriteBehind[T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._put(None)
        else:
            self._stopped.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _put(self, item: T | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                item = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if item is None:
                return
            try:
                self._consume(item)
            except BaseException as error:  # handed over, whatever it is
                self._error = error
                self._stopped.set()
