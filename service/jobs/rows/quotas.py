"""Quotas that several services share: what each has used goes into their database."""

import asyncio
import logging

from service.access import Access
from service.errors import MattingError
from service.jobs.rows.postgres import PostgresJobStore
from service.jobs.rows.store import JobStore

log = logging.getLogger(__name__)
SHARE_S = 0.5


class SharedQuotas:
    """Exchanges balances of keys with the other services on a database, twice a second.

    No request waits for that. While the database is away each service counts alone; what it has
    counted goes there afterwards. Methods run on the event loop.
    """

    def __init__(self, access: Access, store: JobStore) -> None:
        self._access = access
        self._store = store if isinstance(store, PostgresJobStore) else None
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    def start(self) -> None:
        if self._store is not None:
            self._task = asyncio.get_running_loop().create_task(self._share())

    async def aclose(self) -> None:
        """Stop, and leave to the others what was used here."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell what was used here, and take in what is left."""
        if self._store is None or not self._access.has_quotas:
            return
        uses = self._access.take_uses()
        try:
            balances = await self._store.ask(self._store.exchange_quotas, uses)
        except MattingError as error:
            self._access.give_back(uses)
            if not self._is_away:
                log.warning("quotas are counted alone", extra={"fields": {"why": error.detail}})
            self._is_away = True
            return
        self._is_away = False
        self._access.take_in(balances)

    async def _share(self) -> None:
        while True:
            await self.exchange()
            await asyncio.sleep(SHARE_S)
