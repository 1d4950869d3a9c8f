"""Jobs that are tried again later, after errors that may pass, with pauses that grow."""

import asyncio
import logging
from collections.abc import Callable

from service.errors import MattingError
from service.settings import Settings

log = logging.getLogger(__name__)


class Retries:
    """Counts the tries of each job and calls `enqueue(job_id)` when a pause is over.

    Methods run on the event loop. A new process begins to count anew.
    """

    def __init__(self, settings: Settings, enqueue: Callable[[str], None]) -> None:
        self._settings = settings
        self._enqueue = enqueue
        self._counts: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def schedule(self, job_id: str, error: MattingError) -> bool:
        """Put a job off, and return False when its error does not pass or has come too often."""
        count = self._counts.get(job_id, 0)
        if not error.is_passing or count >= self._settings.job_max_retries:
            return False
        self._counts[job_id] = count + 1
        pause_s = self._settings.job_retry_s * 2**count
        fields = {"job": job_id, "why": error.detail, "again_in_s": pause_s}
        log.warning("a job is tried again later", extra={"fields": fields})
        loop = asyncio.get_running_loop()
        self._timers[job_id] = loop.call_later(pause_s, self._end_pause, job_id)
        return True

    def is_scheduled(self, job_id: str) -> bool:
        """Say whether a job is in a pause."""
        return job_id in self._timers

    def forget(self, job_id: str) -> None:
        """Take in that a job has ended or is gone."""
        self._counts.pop(job_id, None)
        if timer := self._timers.pop(job_id, None):
            timer.cancel()

    def close(self) -> None:
        for job_id in list(self._timers):
            self.forget(job_id)

    def _end_pause(self, job_id: str) -> None:
        del self._timers[job_id]
        self._enqueue(job_id)
