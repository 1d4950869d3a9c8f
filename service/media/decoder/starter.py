"""The thread that starts decoder children and ends them."""

from concurrent.futures import Future, ThreadPoolExecutor

from service.media.decoder.client import Decoder
from service.settings import Settings


class DecoderStarter:
    """Starts and ends decoder children, one after another, away from the event loop.

    `early` children are begun at once, for those who ask first.
    """

    def __init__(self, settings: Settings, *, early: int = 0) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter")
        self._early = [self._submit() for _ in range(early)]

    def start(self) -> Future[Decoder]:
        """Return a child that was begun early, or begin another one; its result raises NotReady."""
        return self._early.pop(0) if self._early else self._submit()

    def end(self, decoder: Decoder) -> None:
        """End a child, without waiting for it."""
        self._thread.submit(decoder.close)

    def end_started(self, starting: Future[Decoder]) -> None:
        """End a child that nobody waits for any more, once it has started."""
        if not starting.cancelled():
            self._thread.submit(lambda: starting.result().close())

    def close(self) -> None:
        """End the thread, after the children that were begun early and that nobody took."""
        while self._early:
            starting = self._early.pop()
            starting.cancel()
            self.end_started(starting)
        self._thread.shutdown()

    def _submit(self) -> Future[Decoder]:
        return self._thread.submit(Decoder, self._settings)
