"""Readiness: whether the service takes work, and if not, why."""

from dataclasses import dataclass, field


@dataclass
class Health:
    """The state behind `/readyz`.

    `started` and `draining` are the life of the process. `stalled`: a run of the network does not
    end, and only a new process helps. `failures` says, by model, why its last run failed: readiness
    then has to run a probe, because the next failure would otherwise be a user's.
    """

    started: bool = False
    draining: bool = False
    stalled: bool = False
    failures: dict[str, str] = field(default_factory=dict)

    def report_success(self, model: str) -> None:
        self.failures.pop(model, None)

    def report_failure(self, model: str, reason: str) -> None:
        self.failures[model] = reason

    def not_ready_reason(self) -> str | None:
        """Return why the service takes no work, None when it does."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        if self.stalled:
            return "the network hangs"
        return next(iter(self.failures.values()), None)
