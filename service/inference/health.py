"""Readiness: whether the service takes work, and if not, why."""

from dataclasses import dataclass


@dataclass
class Health:
    """The state behind `/readyz`.

    `started` and `draining` are the life of the process. `stalled`: a run of the network does not
    end, and only a new process helps. After a failed run of the network the
    service is `suspect`: readiness then has to run a probe, because the next failure would
    otherwise be a user's.
    """

    started: bool = False
    draining: bool = False
    stalled: bool = False
    failure: str | None = None

    def report_success(self) -> None:
        self.failure = None

    def report_failure(self, reason: str) -> None:
        self.failure = reason

    def not_ready_reason(self) -> str | None:
        """Return why the service takes no work, None when it does."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        if self.stalled:
            return "the network hangs"
        return self.failure
