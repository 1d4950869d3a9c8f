"""Job rows in SQLite (WAL, synchronous=FULL): durable before they are acknowledged."""

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, ParamSpec, Self, TypeVar, get_args

from service.errors import InsufficientStorage, NotReady
from service.jobs.files.folder import JobFiles, JobResult
from service.jobs.rows.schema import MIGRATIONS, JobStoreError, lock_folder, open_database
from service.threads import Workers, start_in

FOLDER = "matting-jobs"
DATABASE = "jobs.sqlite3"
FILES = "files"
ID_BYTES = 16
FILE_THREADS = 4
State = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("queued", "running")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One row: a clip that was acknowledged, and what has become of it.

    `owner` is the digest that `service.api.auth` makes of a key. Times are seconds since 1970.
    `error` holds the members of a problem document, `deliveries` the log of `Deliveries`.
    """

    id: str
    owner: str
    state: State
    options: dict[str, Any]
    outputs: tuple[str, ...]
    created_s: float
    expires_s: float
    request_digest: str
    idempotency_key: str | None = None
    attempts: int = 0
    frames_done: int = 0
    frames_total: int | None = None
    report: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    results: tuple[JobResult, ...] = ()
    deliveries: tuple[dict[str, Any], ...] = ()

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED


def make_id() -> str:
    """Return a name for a job that nobody can guess."""
    return secrets.token_hex(ID_BYTES)


def digest_request(options: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return the SHA-256 of all that a request asks for; `digests` are those of its files."""
    return hashlib.sha256(json.dumps([options, digests], sort_keys=True).encode()).hexdigest()


_COLUMNS = tuple(Job.__dataclass_fields__)
_JSON = ("options", "outputs", "report", "error", "results", "deliveries")


class LeaseLost(Exception):
    """A job that was held here is held by another service, or is gone."""


class JobStore:
    """All rows and files of jobs below one data folder, for one process at a time.

    Methods block and run in the store's one thread: `await store.ask(store.load, job_id)`.
    `disk` has the threads for files, so that a storage that is slow holds up nothing but jobs.
    `kept` are finished jobs that have something left to send; `is_shared` says whether other
    services have the jobs too.
    """

    is_shared = False

    def __init__(
        self, files: JobFiles, connection: sqlite3.Connection | None, lock: int = -1
    ) -> None:
        self.files = files
        self.kept: set[str] = set()
        if connection is not None:
            self._connection = connection
        self._lock = lock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-store")
        self.disk = Workers(FILE_THREADS, "job-files")

    @classmethod
    def open(cls, data_dir: Path, migrations: Sequence[str] = MIGRATIONS) -> Self:
        """Open the jobs in `data_dir`, made when they are not there.

        Raises JobStoreError when another process has them, when the database is damaged, cannot be
        written, is of a newer version or missing beside files of jobs.
        """
        folder = data_dir / FOLDER
        files = JobFiles(folder / FILES)
        lock = lock_folder(folder)
        try:
            connection = open_database(folder / DATABASE, files, migrations)
        except JobStoreError:
            os.close(lock)
            raise
        return cls(files, connection, lock)

    def release(self, job_id: str) -> None:
        """Let others have a job; here there are none."""

    def claim_delivery(self) -> str | None:
        """Hold a finished job whose service died before all was sent; here there are no others."""
        return None

    async def ask(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Return what a method of the store returns, run in its thread.

        Raises InsufficientStorage when the disk is full or fails, NotReady when another program
        has locked the database.
        """
        return await start_in(
            self._thread, self._translate_errors, partial(function, *args, **more)
        )

    def close(self) -> None:
        """Wait for what is being written, and let another process have the folder."""
        self.close_files()
        self._thread.shutdown()
        self._connection.close()
        os.close(self._lock)

    def close_files(self) -> None:
        self.disk.close()
        self.files.close()

    def insert(self, job: Job, key_free_s: float) -> None:
        """Add a job; a key of its that came before `key_free_s` no longer names an older one."""
        marks = ", ".join("?" * len(_COLUMNS))
        with self.transaction():
            self._execute(
                "UPDATE jobs SET idempotency_key = NULL"
                " WHERE owner = ? AND idempotency_key = ? AND created_s <= ?",
                job.owner,
                job.idempotency_key,
                key_free_s,
            )
            self._execute(
                f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})",
                *[_encode(name, getattr(job, name)) for name in _COLUMNS],
            )

    def update(self, job_id: str, **fields: Any) -> None:
        """Change columns of a job, if it is there."""
        self._write(job_id, fields)

    def requeue(self, job_id: str) -> None:
        """Let a job that was stopped on purpose wait again; the attempt does not count."""
        self._execute(
            "UPDATE jobs SET state = 'queued', attempts = attempts - 1"
            " WHERE id = ? AND state = 'running'",
            job_id,
        )

    def delete(self, job_id: str) -> None:
        self._execute("DELETE FROM jobs WHERE id = ?", job_id)

    def load(self, job_id: str) -> Job | None:
        return next(iter(self._select("WHERE id = ?", job_id)), None)

    def find_key(self, owner: str, key: str, since_s: float) -> Job | None:
        """Return the job that an `Idempotency-Key` has made after `since_s`."""
        where = "WHERE owner = ? AND idempotency_key = ? AND created_s > ?"
        return next(iter(self._select(where, owner, key, since_s)), None)

    def list_owned(self, owner: str, limit: int, before: str | None = None) -> list[Job]:
        """Return jobs of one owner, newest first, those older than the job `before`."""
        return self._select(
            "WHERE owner = ? AND number < coalesce((SELECT number FROM jobs WHERE id = ?), 1e18)"
            " ORDER BY number DESC LIMIT ?",
            owner,
            before,
            limit,
        )

    def list_all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        return self._select("ORDER BY number")

    def count_states(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        found = self._execute("SELECT state, count(*) FROM jobs GROUP BY state")
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        return counts | dict(found.fetchall())

    def find_owners(self) -> dict[str, str]:
        """Return the owners of unfinished jobs by the ids of the jobs."""
        found = self._execute("SELECT id, owner FROM jobs WHERE state IN ('queued', 'running')")
        return dict(found.fetchall())

    def count_waiting(self, owner: str) -> int:
        """Return how many jobs of an owner are queued."""
        query = "SELECT count(*) FROM jobs WHERE owner = ? AND state = 'queued'"
        (count,) = self._execute(query, owner).fetchone()
        return int(count)

    def find_storage_name(self) -> str:
        """Return what the files of this database are called in object storage."""
        (name,) = self._execute("SELECT name FROM matting_storage").fetchone()
        return str(name)

    def _select(self, rest: str, *values: object) -> list[Job]:
        rows = self._execute(f"SELECT {', '.join(_COLUMNS)} FROM jobs {rest}", *values)
        return [_decode(row) for row in rows]

    def _write(
        self, job_id: str, fields: Mapping[str, Any], condition: str = "", *more: object
    ) -> int:
        """Change columns of a job that meets a condition; return how many rows that were."""
        names = ", ".join(f"{name} = ?" for name in fields)
        values = [_encode(name, value) for name, value in fields.items()]
        sql = f"UPDATE jobs SET {names} WHERE id = ?{condition}"
        count: int = self._execute(sql, *values, job_id, *more).rowcount
        return count

    def _execute(self, sql: str, *values: object) -> Any:
        return self._connection.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that happens in the `with` block, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _translate_errors(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except sqlite3.OperationalError as error:
            kind = error.sqlite_errorcode & 0xFF
            if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise NotReady("the database of jobs is locked", retry_after_s=1) from None
            if kind not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            raise InsufficientStorage("the disk of the service is full", retry_after_s=60) from None


def _encode(name: str, value: Any) -> Any:
    if name not in _JSON or value is None:
        return value
    if name == "results":
        value = [asdict(result) for result in value]
    return json.dumps(value, allow_nan=False)


def _decode(row: tuple[Any, ...]) -> Job:
    fields = dict(zip(_COLUMNS, row, strict=True))
    for name in _JSON:
        if fields[name] is not None:
            fields[name] = json.loads(fields[name])
    fields["outputs"] = tuple(fields["outputs"])
    fields["deliveries"] = tuple(fields["deliveries"])
    fields["results"] = tuple(JobResult(**result) for result in fields["results"])
    return Job(**fields)


def mark_served(served: dict[str, None], owner: str) -> None:
    """Put an owner at the end of those whose turn it was, the longest ago first."""
    served.pop(owner, None)
    served[owner] = None
