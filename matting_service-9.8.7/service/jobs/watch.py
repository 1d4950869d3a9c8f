"""Notify the watchers of jobs of changes."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator


class Watchers:
    """Who watches which job; methods run on the event loop."""

    def __init__(self) -> None:
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(len(events) for events in self._events.values())

    def notify(self, job_id: str) -> None:
        for changed in self._events.get(job_id, ()):
            changed.set()

    def notify_all(self) -> None:
        for job_id in self._events:
            self.notify(job_id)

    async def follow(self, job_id: str, keep_alive_s: float) -> AsyncGenerator[bool]:
        """Yield True at once and after each change, False when there was none for so long."""
        changed = asyncio.Event()
        changed.set()
        self._events[job_id].add(changed)
        try:
            while True:
                try:
                    await asyncio.wait_for(changed.wait(), keep_alive_s)
                except TimeoutError:
                    yield False
                    continue
                changed.clear()
                yield True
        finally:
            self._events[job_id].discard(changed)
            if not self._events[job_id]:
                del self._events[job_id]
