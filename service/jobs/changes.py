"""Changes of jobs: their rows, their files, those who watch them, and the counts, kept in line."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from service.errors import InsufficientStorage, NotReady
from service.jobs.store import JobStore
from service.jobs.watch import Watchers
from service.runtime import Runtime
from service.telemetry.record import annotate
from service.threads import wait_for_thread

RETRY_S = 1.0
TOLD = ("state", "frames_done", "error")  # columns for the log


class Changes:
    """Writes what becomes of jobs; methods run on the event loop."""

    def __init__(self, store: JobStore, runtime: Runtime, watchers: Watchers) -> None:
        self._store = store
        self._disk = runtime.files
        self._metrics = runtime.metrics
        self._watchers = watchers

    async def write(self, job_id: str, frees: Callable[[str], None], **columns: Any) -> None:
        """Change a row for sure: a full disk or a locked database is waited for.

        `frees` is as in `apply`.
        """
        change = partial(self._store.update, job_id, **columns)
        while True:
            try:
                await self.apply(job_id, change, frees)
                return annotate(**{name: columns[name] for name in TOLD if name in columns})
            except (InsufficientStorage, NotReady):
                await asyncio.sleep(RETRY_S)

    async def apply(
        self, job_id: str, change: Callable[[], None], frees: Callable[[str], None]
    ) -> None:
        """Change a row and tell everybody; raises InsufficientStorage and NotReady.

        `frees` removes the files that the job no longer needs after the change, and before it
        where there is no room for the row: else nothing on a full disk would ever make room.
        """
        disk = self._disk
        try:
            await wait_for_thread(self._store.ask(change))
        except InsufficientStorage:
            await wait_for_thread(disk.run(frees, job_id))
            await wait_for_thread(self._store.ask(change))
        await wait_for_thread(disk.run(frees, job_id))
        await self.count_states()
        self._watchers.notify(job_id)

    async def count_states(self) -> None:
        for state, count in (await self._store.ask(self._store.count_states)).items():
            self._metrics.jobs.labels(state).set(count)
