"""A warm pool of decoder children."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.errors import MattingError
from service.media.decoder.client import Decoder
from service.media.decoder.starter import DecoderStarter
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)
MAX_ITEMS = 1000  # what leaks in a codec ends with its child
IDLE_S = 60.0  # so long a child beyond those for stills waits for another clip


class DecoderPool:
    """Children ready for work; a child that dies or is left half-way is replaced.

    `stills` of them are kept warm; `videos` more may start, so that clips, which hold a child for
    as long as they run, never take the last one from the images, and as many again for the clips
    behind them: who has a child for a clip never waits long for its second one. `chunks` are those
    of sessions.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        stills: int,
        videos: int,
        chunks: int = 0,
        clock: Callable[[], float] = time.monotonic,
        starter: DecoderStarter | None = None,
    ) -> None:
        self._metrics = metrics
        self._stills = stills
        counts = {"still": stills, "video": videos, "background": videos, "chunk": chunks}
        self._free = {kind: asyncio.Semaphore(count) for kind, count in counts.items()}
        self._idle: list[tuple[Decoder, float]] = []  # and since when; the latest to come last
        self._clock = clock
        self._starter = starter or DecoderStarter(settings)

    async def start(self) -> None:
        """Start the children for stills; raises NotReady."""
        for _ in range(self._stills):
            self._idle.append((await self._start_child(), self._clock()))
        if not all(decoder.is_confined for decoder, _ in self._idle):
            log.warning("this system cannot filter system calls: decoders are bounded only")

    @asynccontextmanager
    async def borrow(self, kind: str) -> AsyncIterator[Decoder]:
        """Lend a child for one `still`, `video`, `background` (a clip behind it) or `chunk`."""
        async with self._free[kind]:
            decoder = await self._take()
            try:
                yield decoder
            except MattingError:
                raise
            except BaseException:
                # Most of all a cancelled request: its thread may still be talking to the child,
                # and nobody else may hear the answer.
                decoder.broken = True
                raise
            finally:
                self._give_back(decoder)

    async def aclose(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()
        self._starter.close()

    def trim(self) -> None:
        """End children that nobody has needed for a while, but for those that stills will need."""
        latest_s = self._clock() - IDLE_S
        while len(self._idle) > self._stills and self._idle[0][1] <= latest_s:
            decoder, _ = self._idle.pop(0)
            self._starter.end(decoder)

    async def _take(self) -> Decoder:
        while self._idle:
            decoder, _ = self._idle.pop()
            if decoder.is_alive():
                return decoder
            self._discard(decoder)
        return await self._start_child()

    def _give_back(self, decoder: Decoder) -> None:
        if not decoder.is_alive():
            self._discard(decoder)
        elif decoder.items >= MAX_ITEMS:
            self._starter.end(decoder)
        else:
            self._idle.append((decoder, self._clock()))
            if len(self._idle) > self._stills:
                asyncio.get_running_loop().call_later(IDLE_S, self.trim)

    def _discard(self, decoder: Decoder) -> None:
        self._metrics.decoder_restarts.inc()
        self._starter.end(decoder)

    async def _start_child(self) -> Decoder:
        starting = self._starter.start()
        try:
            return await asyncio.wrap_future(starting)
        except asyncio.CancelledError:
            self._starter.end_started(starting)  # it starts all the same
            raise
