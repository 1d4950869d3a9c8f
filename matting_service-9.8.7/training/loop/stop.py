"""When to end a run before its last step."""

import signal
import time


class TrainError(RuntimeError):
    """Training cannot go on; the message is one line."""


class Stop:
    """A signal or a deadline, looked at once a step."""

    def __init__(self, max_minutes: float | None) -> None:
        self.deadline = time.monotonic() + max_minutes * 60 if max_minutes else float("inf")
        self.max_minutes = max_minutes
        self.signal_name = ""
        self.handlers: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: object) -> None:
        self.signal_name = signal.Signals(number).name
        self.__exit__()  # a second signal ends the process at once

    @property
    def reason(self) -> str:
        """Why to stop now; empty if there is no reason."""
        if self.signal_name:
            return self.signal_name
        is_late = time.monotonic() > self.deadline
        return f"{self.max_minutes:g} minutes are over" if is_late else ""
