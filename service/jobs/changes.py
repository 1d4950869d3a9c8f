"""Changes of jobs: their rows, their files, those who watch them, and the counts, kept in line."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from service.errors import InsufficientStorage, NotFound, NotReady, StorageUnavailable
from service.jobs.rows.store import Job, JobStore
from service.runtime import Runtime
from service.telemetry.record import annotate
from service.threads import wait_for_thread

log = logging.getLogger(__name__)
RETRY_S = 1.0
TOLD = ("state", "frames_done", "error")  # columns for the log


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


async def watch_job(
    watchers: Watchers,
    find: Callable[[str, str], Awaitable[Job]],
    job: Job,
    timer: Callable[[], float],
    keep_alive_s: float,
    is_ending: Callable[[], bool],
) -> AsyncGenerator[Job | None]:
    """Yield a job as it is now and after each change, until it is finished; None after silence.

    Ends early, with the job once more, when `is_ending` says so. A job that is gone is yielded as
    canceled.
    """
    seen, told_s = None, timer()
    async with aclosing(watchers.follow(job.id, keep_alive_s)) as changes:
        async for has_changed in changes:
            if not has_changed:
                yield None
                continue
            try:
                job = await find(job.owner, job.id)
            except NotFound:
                job = replace(job, state="canceled", results=())
            if job != seen or is_ending():
                seen, told_s = job, timer()
                yield job
            elif timer() - told_s > keep_alive_s:  # looked at often, and nothing new
                told_s = timer()
                yield None
            if job.is_finished or is_ending():
                return


class Changes:
    """Writes what becomes of jobs; methods run on the event loop."""

    def __init__(self, store: JobStore, runtime: Runtime, watchers: Watchers) -> None:
        self._store = store
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
        disk = self._store.disk
        try:
            await wait_for_thread(self._store.ask(change))
        except InsufficientStorage:
            await wait_for_thread(disk.run(frees, job_id))
            await wait_for_thread(self._store.ask(change))
        try:
            await wait_for_thread(disk.run(frees, job_id))
        except StorageUnavailable:  # they go when the job expires, or as orphans
            log.warning("files of a job were left", extra={"fields": {"job": job_id}})
        await self.count_states()
        self._watchers.notify(job_id)

    async def count_states(self) -> None:
        for state, count in (await self._store.ask(self._store.count_states)).items():
            self._metrics.jobs.labels(state).set(count)
