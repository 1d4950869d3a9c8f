"""Job rows in PostgreSQL, for several services at once: whoever claims a job holds a lease on it.

Needs the extra `postgres` (psycopg 3), which is imported when a database is opened.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from service.access import QuotaUse, Unit
from service.errors import InProgress, InsufficientStorage, MattingError, NotReady
from service.jobs.files.folder import PART, JobFiles
from service.jobs.recovery import EXPIRED_S
from service.jobs.rows.schema import JobStoreError
from service.jobs.rows.store import FILES, FOLDER, JobStore, LeaseLost, make_id, mark_served

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
OPTIONS: dict[str, Any] = {  # a server that has gone away is noticed within half a minute
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "client_encoding": "utf8",  # whatever the encoding of the database
}
# What is left of a quota: it comes back evenly in a minute, by the clock of the database.
LEFT = (
    "LEAST(q.quota, q.balance + q.quota / 60 *"
    " GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - q.at)::float8))"
)
SCHEMA_LOCK = 0x6D617474  # any number that all services agree on
# As in `service.jobs.rows.schema`; `worker` holds the job until `lease_until`.
MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        options TEXT NOT NULL,
        outputs TEXT NOT NULL,
        created_s DOUBLE PRECISION NOT NULL,
        expires_s DOUBLE PRECISION NOT NULL,
        attempts INTEGER NOT NULL,
        frames_done BIGINT NOT NULL,
        frames_total BIGINT,
        report TEXT,
        error TEXT,
        results TEXT NOT NULL,
        idempotency_key TEXT,
        request_digest TEXT NOT NULL,
        deliveries TEXT NOT NULL,
        worker TEXT,
        lease_until TIMESTAMPTZ
    );
    CREATE INDEX jobs_by_owner ON jobs (owner, number);
    CREATE INDEX jobs_by_state ON jobs (state, number);
    CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    """,
    """
    CREATE TABLE matting_storage (name TEXT NOT NULL);
    INSERT INTO matting_storage VALUES (md5(random()::text || clock_timestamp()::text));
    """,
    """
    CREATE TABLE matting_quotas (
        owner TEXT NOT NULL,
        unit TEXT NOT NULL,
        quota DOUBLE PRECISION NOT NULL,
        balance DOUBLE PRECISION NOT NULL,
        at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (owner, unit)
    );
    """,
)


class PostgresJobStore(JobStore):
    """Jobs that several services share: rows in PostgreSQL, files in a folder or object storage.

    A job that was claimed is held by a lease that `renew` prolongs. Changes of a job that this
    store holds raise LeaseLost once another holds it or it is gone.
    """

    is_shared = True

    def __init__(self, url: str, files: JobFiles, worker: str, lease_s: float) -> None:
        super().__init__(files, None)
        self._url = url
        self._worker = worker
        self._lease_s = lease_s
        self._server: psycopg.Connection[Any] | None = None
        self.held: set[str] = set()
        self._served: dict[str, None] = {}

    @classmethod
    def open_shared(cls, url: str, jobs_dir: Path, lease_s: float) -> Self:
        """Open the jobs of a database, whose tables are made when they are not there.

        Raises JobStoreError when psycopg is missing, the database does not answer or is of a newer
        version, or the folder cannot be used.
        """
        try:
            import psycopg
        except ImportError:
            raise JobStoreError(
                'MATTING_DATABASE_URL needs psycopg: pip install "matting-service[postgres]"'
            ) from None
        worker = f"{socket.gethostname()}.{make_id()}"
        folder = jobs_dir / FOLDER / FILES
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise JobStoreError(f"the folder of jobs {folder} cannot be used: {error}") from None
        store = cls(url, JobFiles(folder, f".{worker}{PART}"), worker, lease_s)
        try:
            store._prepare()
        except JobStoreError:
            store.close()
            raise
        except psycopg.Error as error:
            store.close()
            reason = " ".join(str(error).split())
            raise JobStoreError(
                f"the database of MATTING_DATABASE_URL cannot be used: {reason}"
            ) from None
        return store

    def close(self) -> None:
        """Let others have the jobs that are held."""
        self.close_files()
        self._thread.submit(self._give_up).result()
        self._thread.shutdown()

    def claim(self) -> str | None:
        """Hold the unfinished job whose turn it is, and that nobody holds, and return its id.

        Owners take turns here as in a process without a database, the jobs of each by age.
        """
        return self._claim(
            "state IN ('queued', 'running') AND (lease_until IS NULL OR lease_until < now())"
        )

    def claim_delivery(self) -> str | None:
        """Hold a finished job that its service has not let go of: something is left to send."""
        job_id = self._claim(
            "state IN ('succeeded', 'failed') AND worker IS NOT NULL AND lease_until < now()"
        )
        if job_id is not None:
            self.kept.add(job_id)
        return job_id

    def _claim(self, condition: str) -> str | None:
        rows = self._execute(
            "UPDATE jobs SET worker = ?, lease_until = now() + ? * interval '1 second'"
            f" WHERE number = (SELECT number FROM jobs WHERE {condition}"
            " ORDER BY coalesce(array_position(?::text[], owner), 0), number"
            " LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, owner",
            self._worker,
            self._lease_s,
            list(self._served),
        ).fetchall()
        for job_id, owner in rows:
            self.held.add(job_id)
            mark_served(self._served, owner)
        return rows[0][0] if rows else None

    def renew(self) -> set[str]:
        """Prolong the leases; return the jobs that another holds, or that are gone."""
        if not self.held:
            return set()
        rows = self._execute(
            "UPDATE jobs SET lease_until = now() + ? * interval '1 second'"
            " WHERE worker = ? AND id = ANY(?) RETURNING id",
            self._lease_s,
            self._worker,
            list(self.held),
        ).fetchall()
        return self.held - {job_id for (job_id,) in rows}

    def release(self, job_id: str) -> None:
        """Let others have a job, if it is held and has nothing left to send."""
        if job_id in self.kept:
            return
        self.held.discard(job_id)
        self._execute(
            "UPDATE jobs SET worker = NULL, lease_until = NULL WHERE id = ? AND worker = ?",
            job_id,
            self._worker,
        )

    def update(self, job_id: str, **fields: Any) -> None:
        if job_id not in self.held:
            return super().update(job_id, **fields)
        if not self._write(job_id, fields, " AND worker = ?", self._worker):
            raise LeaseLost(f"job {job_id} was deleted or is held by another service")

    def list_due(self, now_s: float) -> list[str]:
        """Return the jobs that expire, and the expired ones that are to be forgotten."""
        rows = self._execute(
            "SELECT id FROM jobs WHERE expires_s <= ? AND state IN ('succeeded', 'failed')"
            " OR expires_s <= ? AND state = 'expired'",
            now_s,
            now_s - EXPIRED_S,
        )
        return [job_id for (job_id,) in rows]

    def exchange_quotas(self, uses: Sequence[QuotaUse]) -> dict[tuple[str, Unit], float]:
        """Take off what was used; return what is left of quotas by owner and unit, if not all."""
        with self.transaction():
            for use in sorted(uses, key=lambda one: (one.owner, one.unit)):  # no two wait in a ring
                self._execute(
                    "INSERT INTO matting_quotas AS q (owner, unit, quota, balance, at)"
                    " VALUES (?, ?, ?, ?, clock_timestamp()) ON CONFLICT (owner, unit) DO UPDATE"
                    f" SET balance = {LEFT} - ?, quota = excluded.quota, at = clock_timestamp()",
                    *(use.owner, use.unit, use.quota, use.quota - use.amount, use.amount),
                )
            rows = self._execute(
                f"SELECT owner, unit, {LEFT} FROM matting_quotas AS q WHERE {LEFT} < quota"
            )
            return {(owner, unit): left for owner, unit, left in rows}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connect().transaction():
            yield

    def _execute(self, sql: str, *values: object) -> Any:
        return self._connect().execute(sql.replace("?", "%s").encode(), values)

    def _connect(self) -> "psycopg.Connection[Any]":
        import psycopg

        if self._server is None or self._server.closed:
            self._server = psycopg.connect(self._url, autocommit=True, **OPTIONS)
            self._server.execute("SET synchronous_commit = on")
        return self._server

    def _prepare(self) -> None:
        """Bring the tables to the newest version, one service at a time."""
        with self.transaction():
            self._execute("SELECT pg_advisory_xact_lock(?)", SCHEMA_LOCK)
            self._execute("CREATE TABLE IF NOT EXISTS matting_schema (version INTEGER NOT NULL)")
            row = self._execute("SELECT max(version) FROM matting_schema").fetchone()
            version = row[0] or 0
            if version > len(MIGRATIONS):
                raise JobStoreError(
                    f"the database of jobs has version {version}, this service knows up to "
                    f"{len(MIGRATIONS)}; run the newer service again"
                )
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                self._connect().execute(script.encode())
                self._execute("INSERT INTO matting_schema VALUES (?)", number)

    def _give_up(self) -> None:
        import psycopg

        with suppress(psycopg.Error):
            self._execute(
                "UPDATE jobs SET worker = NULL, lease_until = NULL"
                " WHERE worker = ? AND NOT id = ANY(?)",
                self._worker,
                list(self.kept),
            )
            self._execute("UPDATE jobs SET lease_until = now() WHERE worker = ?", self._worker)
        if self._server is not None:
            self._server.close()

    def _translate_errors(self, call: Callable[[], T]) -> T:
        import psycopg

        try:
            return call()
        except psycopg.errors.DiskFull:
            error: MattingError = InsufficientStorage(
                "the disk of the database is full", retry_after_s=60
            )
        except psycopg.errors.UniqueViolation:
            error = InProgress(
                "a request with this Idempotency-Key was received at the same time",
                hint="send it again after Retry-After seconds",
                retry_after_s=1,
            )
        except psycopg.OperationalError:
            error = NotReady("the database of jobs does not answer", retry_after_s=1)
        raise error
