"""Who may use the service, for what, and how much: keys, their scopes and their quotas."""

import hashlib
import hmac
import logging
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import Forbidden, QuotaExceeded
from service.metrics import Metrics
from service.settings import Settings, SettingsError
from service.telemetry.record import add_amount

Scope = Literal["image", "video", "session"]
Unit = Literal["megapixels", "video-seconds"]
SCOPES: tuple[Scope, ...] = ("image", "video", "session")
ANONYMOUS = "anonymous"
MAX_KEY_BYTES = 512
WINDOW_S = 60
LOOK_S = 1.0  # between two looks at the file of keys
log = logging.getLogger(__name__)


class KeyEntry(BaseModel):
    """One table of the file of keys; several digests are one owner, so that keys can change."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sha256: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(min_length=1)
    scopes: list[Scope] = list(SCOPES)
    megapixels_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    video_s_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


@dataclass(frozen=True)
class Holder:
    """Who holds a key: `name` is for people, `owner` for what is stored. A quota may be None."""

    name: str
    owner: str
    scopes: frozenset[Scope] = frozenset(SCOPES)
    quotas: dict[Unit, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class QuotaUse:
    """What a key has used of a quota a minute, in the unit of the quota."""

    owner: str
    unit: Unit
    quota: float
    amount: float


@dataclass
class _Balance:
    """What was `left` of a quota at a time; `unshared` of it is known to this process alone."""

    left: float
    at_s: float
    unshared: float = 0.0


class Access:
    """The keys of the settings and of the file, which is read again when it changes.

    Keys are compared by their SHA-256 digests: `hmac.compare_digest` refuses non-ASCII text, and
    equal lengths leave no timing to measure. Methods run on the event loop.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the keys; raises SettingsError when the file cannot be used."""
        self._metrics = metrics
        self._clock = clock
        self._fixed = name_keys(settings.api_keys)
        self._file = settings.keys_file
        self._version: tuple[int, int, int] | None = None
        self._looked_s = clock()
        self._from_file: dict[bytes, Holder] = {}
        self._balances: dict[tuple[str, Unit], _Balance] = {}
        if self._file is not None:
            self._from_file, self._version = read_keys(self._file)
        self._holders = {holder.owner: holder for holder in self._list_holders()}

    @property
    def needs_keys(self) -> bool:
        return self._file is not None or bool(self._fixed)

    def find_holder(self, candidate: bytes | None) -> Holder | None:
        """Return who holds a key, everybody when there are no keys, None when it is refused."""
        if not self.needs_keys:
            return Holder(ANONYMOUS, ANONYMOUS)
        self._look_again()
        if not candidate or len(candidate) > MAX_KEY_BYTES:
            return None
        digest, found = hashlib.sha256(candidate).digest(), None
        for known, holder in (*self._fixed.items(), *self._from_file.items()):
            if hmac.compare_digest(digest, known):
                found = holder
        return found

    def check(self, holder: Holder, scope: Scope, unit: Unit | None) -> None:
        """Raise Forbidden for what the key is not for, QuotaExceeded when its quota is used up.

        `unit`: in which the work is counted; None when there is no work.
        """
        if scope not in holder.scopes:
            allowed = ", ".join(sorted(holder.scopes)) or "nothing"
            raise Forbidden(
                f"this key is not for `{scope}`", hint=f"it is for {allowed}; use another key"
            )
        quota = None if unit is None else holder.quotas.get(unit)
        if unit is None or quota is None:
            return
        balance = self._settle(holder.owner, unit, quota)
        if balance.left <= 0:
            self._metrics.requests_rejected.labels("quota").inc()
            raise QuotaExceeded(
                f"the key has used its {quota:g} {unit} a minute",
                hint="send the request again after Retry-After seconds",
                limit=quota,
                retry_after_s=(1 - balance.left) / quota * WINDOW_S,
            )

    def charge(self, owner: str, unit: Unit, amount: float) -> None:
        """Take in what was used; what is over the quota is paid back before the next request."""
        holder = self._holders.get(owner, Holder(ANONYMOUS, owner))
        self._metrics.key_use.labels(holder.name, unit).inc(amount)
        add_amount(unit.replace("-", "_"), amount)
        quota = holder.quotas.get(unit)
        if quota is not None:
            balance = self._settle(owner, unit, quota)
            balance.left -= amount
            balance.unshared += amount

    @property
    def has_quotas(self) -> bool:
        """Whether any key has a quota."""
        return any(quota for one in self._list_holders() for quota in one.quotas.values())

    def take_uses(self) -> list[QuotaUse]:
        """Return what was used since the last call, to be told to other services."""
        uses = []
        for (owner, unit), balance in self._balances.items():
            quota = self._find_quota(owner, unit)
            if quota is not None and balance.unshared:
                uses.append(QuotaUse(owner, unit, quota, balance.unshared))
                balance.unshared = 0.0
        return uses

    def give_back(self, uses: Iterable[QuotaUse]) -> None:
        """Take in that uses could not be told."""
        for use in uses:
            self._balances[use.owner, use.unit].unshared += use.amount

    def take_in(self, balances: Mapping[tuple[str, Unit], float]) -> None:
        """Count on from what all services together have left of the quotas; others are whole."""
        for owner, unit in {*self._balances, *balances}:
            quota = self._find_quota(owner, unit)
            if quota is not None:
                balance = self._settle(owner, unit, quota)
                balance.left = balances.get((owner, unit), quota) - balance.unshared

    def find_name(self, owner: str) -> str:
        """Return the name of the key whose owner is known by his digest."""
        return self._holders[owner].name if owner in self._holders else ANONYMOUS

    def describe(self, holder: Holder) -> list[tuple[bytes, bytes]]:
        """Return the `RateLimit` headers of a key (draft-ietf-httpapi-ratelimit-headers)."""
        policies, states = [], []
        for unit, quota in holder.quotas.items():
            if quota is None:
                continue
            left = self._settle(holder.owner, unit, quota).left
            reset_s = round((quota - left) / quota * WINDOW_S)
            policies.append(f'"{unit}";q={quota:g};w={WINDOW_S}')
            states.append(f'"{unit}";r={max(0, int(left))};t={reset_s}')
        if not policies:
            return []
        return [
            (b"ratelimit-policy", ", ".join(policies).encode()),
            (b"ratelimit", ", ".join(states).encode()),
        ]

    def _find_quota(self, owner: str, unit: Unit) -> float | None:
        holder = self._holders.get(owner)
        return None if holder is None else holder.quotas.get(unit)

    def _settle(self, owner: str, unit: Unit, quota: float) -> _Balance:
        """Return the balance of now: a full quota comes back evenly in a minute."""
        now_s = self._clock()
        balance = self._balances.setdefault((owner, unit), _Balance(quota, now_s))
        gained = (now_s - balance.at_s) * quota / WINDOW_S
        balance.left, balance.at_s = min(quota, balance.left + gained), now_s
        return balance

    def _list_holders(self) -> Iterable[Holder]:
        return (*self._fixed.values(), *self._from_file.values())

    def _look_again(self) -> None:
        """Read the file again when it has changed; one that cannot be used changes nothing."""
        now_s = self._clock()
        if self._file is None or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            if find_version(self._file) == self._version:
                return
            self._from_file, self._version = read_keys(self._file)
        except (OSError, SettingsError) as error:
            log.error("the keys stay as they were", extra={"fields": {"why": str(error)}})
            return
        # Those that are gone stay known: their jobs may still run.
        self._holders |= {holder.owner: holder for holder in self._list_holders()}
        log.info("keys read again", extra={"fields": {"keys": len(self._from_file)}})


def name_keys(keys: Iterable[str]) -> dict[bytes, Holder]:
    """Return the holders of plain keys by their digests; they may do everything."""
    found = {}
    for number, key in enumerate(keys, 1):
        digest = hashlib.sha256(key.encode()).digest()
        found[digest] = Holder(f"key-{number}", make_owner(b"owner:" + digest))
    return found


def read_keys(path: Path) -> tuple[dict[bytes, Holder], tuple[int, int, int]]:
    """Return the holders in a file by the digests of their keys, and the file's version.

    Raises SettingsError.
    """
    try:
        version = find_version(path)
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"MATTING_KEYS_FILE={str(path)!r}: {error}") from None
    holders: dict[bytes, Holder] = {}
    for name, table in tables.items():
        try:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
                raise ValueError("a name has 1 to 64 of A-Z a-z 0-9 _ . -")
            entry = KeyEntry.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (name, *first["loc"]))
            raise SettingsError(f"MATTING_KEYS_FILE: {where}: {first['msg']}") from None
        except ValueError as error:
            raise SettingsError(f"MATTING_KEYS_FILE: [{name}]: {error}") from None
        quotas: dict[Unit, float | None] = {
            "megapixels": entry.megapixels_per_minute,
            "video-seconds": entry.video_s_per_minute,
        }
        holder = Holder(name, make_owner(b"name:" + name.encode()), frozenset(entry.scopes), quotas)
        holders |= {bytes.fromhex(digest): holder for digest in entry.sha256}
    return holders, version


def find_version(path: Path) -> tuple[int, int, int]:
    """Return what differs when a file has been written or replaced."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def make_owner(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]


def make_key(name: str) -> str:
    """Return a new key and the table for it, as text for people."""
    key = secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f'# the key, shown once: {key}\n[{name}]\nsha256 = ["{digest}"]'
