"""The admission gate: bounds on requests, megapixels and queued work."""

from collections import Counter
from types import TracebackType

from service.access import ANONYMOUS
from service.errors import Overloaded
from service.metrics import Metrics

# How much one new measurement of the network's speed counts against the older ones.
SPEED_WEIGHT = 0.2
# Seconds of refine=fine for one image, before any was measured.
FINE_S = 5.0


class AdmissionGate:
    """Admits image requests or refuses them at once; nothing ever waits here.

    Three bounds: requests in progress, source megapixels in progress, and seconds of network work
    ahead of the newcomer. One request may always wait behind the one that runs.

    No key can keep the others out: one that has no request in progress enters though the bounds are
    reached, and `reserved_megapixels` are for keys that have none in progress. Anonymous clients
    are no key.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_megapixels: float,
        queue_s: float,
        metrics: Metrics,
        reserved_megapixels: float = 0,
    ) -> None:
        self.max_requests = max_requests
        self.max_megapixels = max_megapixels
        self.reserved_megapixels = reserved_megapixels
        self.queue_s = queue_s
        self.requests = 0
        self.own_requests: Counter[str] = Counter()
        self.own_pixels: Counter[str] = Counter()
        self.pixels = 0  # whole numbers: sums of fractions do not come back to zero
        self.image_s = 0.0
        self.fine_s = FINE_S
        self.fine_requests = 0
        self._metrics = metrics

    @property
    def megapixels(self) -> float:
        return self.pixels / 1e6

    def observe_fine(self, fine_s: float) -> None:
        """Take in the seconds that refine=fine of one image would take on all cores."""
        self.fine_s += SPEED_WEIGHT * (fine_s - self.fine_s)

    def observe(self, image_s: float) -> None:
        """Take in the measured seconds of network time of one image, in all its passes."""
        weight = SPEED_WEIGHT if self.image_s else 1.0
        self.image_s += weight * (image_s - self.image_s)

    @property
    def ahead_s(self) -> float:
        """Seconds of work that is admitted."""
        return self.requests * self.image_s + self.fine_requests * self.fine_s

    def check(self, owner: str = ANONYMOUS) -> None:
        """Raise Overloaded when a bound is reached; to be called before a body is read, too."""
        if owner != ANONYMOUS and not self.own_requests[owner]:
            return
        ahead_s = self.ahead_s
        if self.requests >= self.max_requests:
            raise self._refuse("requests in progress", self.max_requests, self.requests)
        if self.requests >= 2 and ahead_s > self.queue_s:
            raise self._refuse("seconds of work are queued", self.queue_s, round(ahead_s, 2))

    def try_enter(self, owner: str = ANONYMOUS, *, is_fine: bool = False) -> "Ticket":
        """Return a ticket that must be closed; raises Overloaded when a bound is reached.

        The seconds that refine=fine takes count as well.
        """
        self.check(owner)
        self.requests += 1
        self.own_requests[owner] += 1
        self.fine_requests += is_fine
        return Ticket(self, owner, is_fine=is_fine)

    def _refuse(self, what: str, limit: float, actual: float) -> Overloaded:
        self._metrics.requests_rejected.labels("overloaded").inc()
        return Overloaded(
            f"the queue is full: {actual} {what}, the limit is {limit}",
            hint="send the request again after Retry-After seconds",
            limit=limit,
            actual=actual,
            retry_after_s=self.ahead_s,
        )


class Ticket:
    """One admitted request; leaving the `with` block frees its share of the gate.

    `requests` is 0 for a part of a request that is admitted already.
    """

    def __init__(
        self, gate: AdmissionGate, owner: str, requests: int = 1, *, is_fine: bool = False
    ) -> None:
        self._gate = gate
        self._owner = owner
        self._is_fine = is_fine
        self._requests = requests
        self._pixels = 0

    def share(self) -> "Ticket":
        """Return a ticket for one of several pictures of the request, for its pixels alone."""
        return Ticket(self._gate, self._owner, requests=0)

    def add_megapixels(self, megapixels: float) -> None:
        """Count the source pixels, known once the header is read; raises Overloaded.

        The files of a request alone in the gate always pass: the limit on one image is a different
        one.
        """
        gate = self._gate
        total, most = gate.megapixels + megapixels, gate.max_megapixels
        if self._owner != ANONYMOUS and gate.own_pixels[self._owner] > self._pixels:
            most -= gate.reserved_megapixels
        if gate.pixels > self._pixels and total > most:
            raise gate._refuse("megapixels in progress", most, round(total, 1))
        pixels = round(megapixels * 1e6)
        gate.pixels += pixels
        gate.own_pixels[self._owner] += pixels
        self._pixels += pixels

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gate.requests -= self._requests
        self._gate.fine_requests -= self._is_fine
        self._gate.pixels -= self._pixels
        self._gate.own_requests[self._owner] -= self._requests
        self._gate.own_pixels[self._owner] -= self._pixels


class ByteBudget:
    """Bytes of request bodies that may be on their way at once, counted before they come.

    A quarter is for keys that have none on their way, so that no key can have it all.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.own_bytes: Counter[str] = Counter()
        self._metrics = metrics

    def take(self, count: int, owner: str = ANONYMOUS) -> "ByteTicket":
        """Return a ticket for `count` bytes that must be closed; raises Overloaded.

        A body alone always passes: the limit on one body is a different one.
        """
        total, most = self.bytes + count, self.max_bytes
        if owner != ANONYMOUS and self.own_bytes[owner]:
            most = most * 3 // 4
        if self.bytes and total > most:
            self._metrics.requests_rejected.labels("overloaded").inc()
            raise Overloaded(
                f"bodies of {self.bytes} bytes are on their way, with this one they would be "
                f"{total}, the limit is {most}",
                hint="send the request again after Retry-After seconds, with a Content-Length",
                limit=most,
                actual=total,
                retry_after_s=1,
            )
        self.bytes = total
        self.own_bytes[owner] += count
        return ByteTicket(self, count, owner)


class ByteTicket:
    """The share of one body in the budget, until `close`."""

    def __init__(self, budget: ByteBudget, count: int, owner: str) -> None:
        self._budget = budget
        self._count = count
        self._owner = owner

    def close(self) -> None:
        """Give the share back; more than once does no harm."""
        self._budget.bytes -= self._count
        self._budget.own_bytes[self._owner] -= self._count
        self._count = 0
