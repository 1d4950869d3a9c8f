"""Which engine runs next: one that has all cores for a run, or one for two runs side by side."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.inference.engine import Engine

log = logging.getLogger(__name__)

LANES = 2


class Lanes:
    """The runs of one network: one on all cores, or LANES on a share of the cores each.

    Within a run the threads wait for each other after every layer, and all of them for one that
    something else has taken its core from. Two runs do not wait for each other: two cores do a
    fifth more (benchmarks/RESULTS.md). One picture alone is done sooner on all cores, but for a
    live frame, beside which others are decoded and rendered.

    The engine for runs side by side is opened when it is first of use; until then, and where there
    is none, all run one after another. `on_change` is called when another run may begin.
    """

    def __init__(
        self, engine: Engine, on_change: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self.engine = engine
        self._beside: Engine | None = None
        self._opening: asyncio.Task[None] | None = None
        self._on_change = on_change
        self._clock = clock
        self._starts_s: dict[object, float] = {}
        self._running: Engine = engine

    @property
    def run_s(self) -> float:
        """Seconds since the oldest run in progress began, 0 when there is none."""
        return self._clock() - min(self._starts_s.values()) if self._starts_s else 0.0

    def choose(self, waiting: int, *, is_live: bool) -> Engine | None:
        """Return the engine for the next of so many pictures, None: not before a run has ended."""
        if not waiting:
            return None
        gains = waiting + len(self._starts_s) > 1 or is_live
        if gains and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        if self._starts_s:
            is_beside = self._running is self._beside
            return self._beside if is_beside and len(self._starts_s) < LANES else None
        return self._beside if gains and self._beside is not None else self.engine

    @contextmanager
    def run(self, engine: Engine) -> Iterator[Callable[[], None]]:
        """Count a run that begins now; call what is given when it begins once more."""
        run = object()

        def restart() -> None:
            self._starts_s[run] = self._clock()

        self._running = engine
        restart()
        try:
            yield restart
        finally:
            del self._starts_s[run]
            self._on_change()

    def count(self, engine: Engine) -> int:
        """Return how many runs of an engine take the time of one."""
        return LANES if engine is self._beside else 1

    def give_up(self, engine: Engine) -> bool:
        """Let go of the engine for runs side by side, for good; False: it is not this one."""
        if engine is not self._beside:
            return False
        self._beside = None
        return True

    async def aclose(self) -> None:
        """Return when no thread opens an engine any more."""
        if self._opening is not None:
            await self._opening

    async def _open(self) -> None:
        try:
            self._beside = await asyncio.to_thread(self.engine.open_beside, LANES)
        except Exception:  # whatever a library throws: the network runs as it did
            log.warning("no runs side by side", exc_info=True)
        self._on_change()
