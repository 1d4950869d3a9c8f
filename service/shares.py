"""Places that many share, of which nobody can take all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class SharedPlaces:
    """`total` places, `own` at most for one owner; who finds none waits for the next."""

    def __init__(self, total: int, own: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._most_own = own
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place and hold it for the `async with` block."""
        own = self._own.setdefault(owner, asyncio.Semaphore(self._most_own))
        async with own, self._total:
            yield
