"""The order of jobs that wait: in this process, or in a database that several services share."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from service.errors import MattingError
from service.jobs.rows.postgres import PostgresJobStore
from service.jobs.rows.store import JobStore, mark_served

LOOK_S = 1.0


class LocalQueue:
    """Jobs of this process alone; owners take turns, the jobs of each in the order they came."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._served: dict[str, None] = {}  # owners, the one whose turn was longest ago first
        self.ids: deque[str] = deque()

    def put(self, job_id: str) -> None:
        self.ids.append(job_id)

    def end(self, job_id: str) -> None:
        """Take in that a run has ended."""

    def remove(self, job_id: str) -> None:
        with suppress(ValueError):
            self.ids.remove(job_id)

    async def take(self) -> str | None:
        """Return the job whose turn it is, None when none waits."""
        owners: dict[str, str] = {}
        if self.ids:
            with suppress(MattingError):  # else in the order in which they came
                owners = await self._store.ask(self._store.find_owners)
        if not self.ids:
            return None
        turns = {owner: turn for turn, owner in enumerate(self._served, 1)}
        job_id = min(self.ids, key=lambda one: turns.get(owners.get(one, ""), 0))
        self.ids.remove(job_id)
        mark_served(self._served, owners.get(job_id, ""))
        return job_id

    async def count(self) -> int:
        return len(self.ids)


class SharedQueue:
    """Jobs of all services on a database; what is taken is held until it is put back or ends."""

    def __init__(self, store: PostgresJobStore) -> None:
        self._store = store
        self._to_release: set[str] = set()

    def put(self, job_id: str) -> None:
        self._to_release.add(job_id)

    end = remove = put

    async def list_due(self, now_s: float) -> list[str]:
        return await self._store.ask(self._store.list_due, now_s)

    async def take(self) -> str | None:
        """Return a job that nobody holds, None when there is none or no answer."""
        store = self._store
        try:
            while self._to_release:
                job_id = self._to_release.pop()
                await store.ask(store.release, job_id)
            return await store.ask(store.claim)
        except MattingError:
            return None  # the next look asks again; a lease that was not released runs out

    async def count(self) -> int:
        return (await self._store.ask(self._store.count_states))["queued"]

    async def share(self, on_look: Callable[[], None], on_lost: Callable[[str], None]) -> None:
        """Prolong what is held for ever; tell of jobs that another service has taken or deleted.

        `on_look` is called when others may have changed something.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(MattingError):
                for job_id in await self._store.ask(self._store.renew):
                    on_lost(job_id)
            on_look()


def make_queue(store: JobStore) -> LocalQueue | SharedQueue:
    """Return the queue of the jobs in a store."""
    return SharedQueue(store) if isinstance(store, PostgresJobStore) else LocalQueue(store)
