"""Frames of a live connection that wait, and how they go from one task to the next."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.metrics import Metrics

WAITING_FRAMES = 2  # that nobody has begun to work on
T = TypeVar("T")


@dataclass(frozen=True)
class LiveFrame:
    """A message as it came: its number on this connection, its time on the stream's clock.

    `notes`: what of its picture was mended or converted, once it is decoded.
    """

    number: int
    arrived_s: float
    data: bytes = b""
    notes: tuple[str, ...] = ()


class Inbox:
    """Frames that wait, WAITING_FRAMES at most.

    One more takes the place of all of them: its client sends more than can be done, and what it
    sees shall be new.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._frames: deque[LiveFrame] = deque()
        self.dropped = 0

    def put(self, frame: LiveFrame) -> None:
        if len(self._frames) == WAITING_FRAMES:
            self._frames.clear()
            self.dropped += WAITING_FRAMES
            self._metrics.frames_dropped.inc(WAITING_FRAMES)
        self._frames.append(frame)

    def take(self) -> LiveFrame | None:
        """Return the frame that has waited longest, if there is one."""
        return self._frames.popleft() if self._frames else None


class Rendezvous(Generic[T]):
    """Gives things from one task to the next, of which none ever waits in between."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T] = asyncio.Queue(1)

    async def give(self, item: T) -> None:
        """Return when the other task has taken the item."""
        await self._queue.put(item)
        await self._queue.join()

    async def take(self) -> T:
        item = await self._queue.get()
        self._queue.task_done()
        return item
