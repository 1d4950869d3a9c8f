"""When a request is sent again, and after which pause."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Retry:
    """How often and how late requests are sent again.

    `tries` counts the first one. Without `Retry-After` the pause begins with `pause_s` and doubles;
    what the service asks for is kept, and up to `jitter` of the pause is added at random, so that
    clients do not come back all at once. Who is asked to wait for over `max_pause_s` gives up.
    """

    tries: int = 6
    pause_s: float = 0.5
    max_pause_s: float = 60.0
    jitter: float = 0.25
    random: Callable[[], float] = random.random

    def choose_pause(self, failures: int, asked_s: float | None) -> float | None:
        """Return the seconds to wait after so many failures, None to give up."""
        if failures >= self.tries or (asked_s or 0) > self.max_pause_s:
            return None
        pause_s = asked_s
        if pause_s is None:
            pause_s = min(self.pause_s * 2 ** (failures - 1), self.max_pause_s)
        return pause_s * (1 + self.jitter * self.random())


def read_retry_after(value: str | None, clock: Callable[[], float] = time.time) -> float | None:
    """Return the seconds of a `Retry-After` (RFC 9110), a number or a date, or None."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - clock())
    except ValueError:
        return None
