"""Whose picture the network sees next: live frames first, the rest in fair shares.

Start-time fair queueing (Goyal, Vin and Cheng, 1996) on two levels, between the kinds of caller and
between the owners of each kind. A share is counted in values of the network's input, which its time
is nearly proportional to.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

# Live frames in a row before another caller who waits gets a turn: first does not mean alone.
LIVE_RUNS = 3

Kind = Literal["live", "image", "clip"]


@dataclass(frozen=True)
class Caller:
    """For what and for whom the network runs; chunks of sessions count as clips."""

    kind: Kind = "image"
    owner: str = ""


SOMEBODY = Caller()


class Sized(Protocol):
    """A picture that waits: `shape` of its input, `cost` in values."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def cost(self) -> int: ...


Item = TypeVar("Item", bound=Sized)
Name = TypeVar("Name", bound="str | Caller")


@dataclass
class Shares(Generic[Name]):
    """Who has had how much: the start tags of a fair queue, and its virtual time `now`."""

    tags: dict[Name, int] = field(default_factory=dict)
    now: int = 0

    def choose(self, names: Sequence[Name]) -> Name:
        """Return the name that has had least; who comes back after a pause has saved nothing."""
        return min(names, key=self._start)

    def charge(self, name: Name, cost: int) -> None:
        self.now = self._start(name)
        self.tags[name] = self.now + cost

    def _start(self, name: Name) -> int:
        return max(self.tags.get(name, 0), self.now)


class FairQueue(Generic[Item]):
    """What waits for one network; pictures of one owner stay in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[Caller, deque[Item]] = {}
        self._kinds = Shares[str]()
        self._owners: defaultdict[str, Shares[Caller]] = defaultdict(Shares)
        self._live_runs = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Item]:
        for items in self._waiting.values():
            yield from items

    @property
    def has_live(self) -> bool:
        """Whether a live frame waits."""
        return any(caller.kind == "live" for caller in self._waiting)

    def push(self, caller: Caller, item: Item) -> None:
        self._waiting.setdefault(caller, deque()).append(item)

    def remove(self, caller: Caller, item: Item) -> None:
        """Take out what nobody waits for any more, if it is there."""
        if caller in self._waiting:
            self._take(caller, item)

    def pop_batch(self, most: int) -> list[Item]:
        """Return what is next, up to `most` of one shape; empty when nothing waits."""
        batch: list[Item] = []
        waiting = {caller: items[0] for caller, items in self._waiting.items()}
        while waiting and len(batch) < most:
            caller = self._choose(list(waiting))
            item = waiting.pop(caller)
            self._take(caller, item)
            self._charge(caller, item.cost)
            batch.append(item)
            found = ((other, self._find(other, item)) for other in self._waiting)
            waiting = {other: like for other, like in found if like is not None}
        if not self._waiting:  # shares are of what waits together
            self._kinds, self._owners = Shares(), defaultdict(Shares)
        return batch

    def _choose(self, callers: list[Caller]) -> Caller:
        kinds = {caller.kind for caller in callers}
        others = sorted(kinds - {"live"})
        if "live" in kinds and (not others or self._live_runs < LIVE_RUNS):
            kind = "live"
        else:
            kind = self._kinds.choose(others)
        own = [caller for caller in callers if caller.kind == kind]
        return self._owners[kind].choose(own)

    def _charge(self, caller: Caller, cost: int) -> None:
        if caller.kind == "live":
            self._live_runs += 1
        else:
            self._live_runs = 0
            self._kinds.charge(caller.kind, cost)
        self._owners[caller.kind].charge(caller, cost)

    def _find(self, caller: Caller, like: Item) -> Item | None:
        items = self._waiting[caller]
        return next((item for item in items if item.shape == like.shape), None)

    def _take(self, caller: Caller, item: Item) -> None:
        left = deque(other for other in self._waiting[caller] if other is not item)
        if left:
            self._waiting[caller] = left
        else:
            del self._waiting[caller]
