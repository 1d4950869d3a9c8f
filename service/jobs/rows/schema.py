"""The SQLite database of jobs: lock, integrity check, migrations."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from service.jobs.files.folder import JobFiles, sync_folder
from service.scratch import open_locked

LOCK_TIMEOUT_S = 2.0
# One script for each version of the schema; a database of version n has had the first n.
MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order, whatever the clock does
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        options TEXT NOT NULL,
        outputs TEXT NOT NULL,
        created_s REAL NOT NULL,
        expires_s REAL NOT NULL,
        attempts INTEGER NOT NULL,
        frames_done INTEGER NOT NULL,
        frames_total INTEGER,
        report TEXT,
        error TEXT,
        results TEXT NOT NULL,
        idempotency_key TEXT,
        request_digest TEXT NOT NULL
    );
    CREATE INDEX jobs_by_owner ON jobs (owner, number);
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    """,
    """
    ALTER TABLE jobs ADD COLUMN deliveries TEXT NOT NULL DEFAULT '[]';
    """,
    """
    CREATE TABLE matting_storage (name TEXT NOT NULL);  -- of its files in object storage
    INSERT INTO matting_storage VALUES (lower(hex(randomblob(16))));
    """,
)


class JobStoreError(Exception):
    """The jobs cannot be opened; the text tells the operator why."""


class JobStoreBusy(JobStoreError):
    """Another process has the jobs open."""


def lock_folder(folder: Path) -> int:
    """Make the folder of the jobs, private to the user of this process, and lock it.

    Returns a descriptor that holds the lock; raises JobStoreError.
    """
    try:
        folder.mkdir(0o700, exist_ok=True)
        # The parent may be the system's temporary folder, where anybody can make a folder first.
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise JobStoreError(
                f"{folder} belongs to another user; set MATTING_DATA_DIR to a folder of your own"
            )
        folder.chmod(0o700)
        return open_locked(folder / "lock")
    except BlockingIOError:
        raise JobStoreBusy(
            f"another process serves the jobs in {folder}; give this one a folder of its own with "
            "MATTING_DATA_DIR"
        ) from None
    except OSError as error:
        raise JobStoreError(f"the folder of jobs {folder} cannot be used: {error}") from None


def open_database(path: Path, files: JobFiles, migrations: Sequence[str]) -> sqlite3.Connection:
    """Return a connection to the database, checked and brought to the newest version.

    Raises JobStoreError.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        for folder in (path.parent, path.parent.parent):
            sync_folder(folder)
        connection = sqlite3.connect(
            path, LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, files, path, migrations)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise JobStoreError(
            f"the database of jobs {path} cannot be used: {error}; restore it, or move "
            f"{path.parent} away to start without its jobs"
        ) from None
    return connection


def count_kept_rows(path: Path) -> int:
    """Return how many jobs of a database have files: those that are waited for, and results.

    0 for one that cannot be read, which its own process says at its start.
    """
    try:
        with closing(sqlite3.connect(path, LOCK_TIMEOUT_S)) as connection:
            states = "('queued', 'running', 'succeeded')"
            found = connection.execute(f"SELECT count(*) FROM jobs WHERE state IN {states}")
            return int(found.fetchone()[0])
    except sqlite3.Error:
        return 0


def _prepare(
    connection: sqlite3.Connection, files: JobFiles, path: Path, migrations: Sequence[str]
) -> None:
    """Check the database and bring it to the newest version."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged ({' '.join(found.split())})")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise JobStoreError(
            f"the database of jobs {path} has version {version}, this service knows up to "
            f"{len(migrations)}; run the newer service again"
        )
    if version == 0 and files.list_ids():
        raise JobStoreError(
            f"{files.folder} holds files of jobs, but their database {path} is missing or empty; "
            "restore it, or remove the files"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Also where nothing is to be done: a database that cannot be written must not start.
    script = "".join(migrations[version:])
    connection.executescript(
        f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {len(migrations)}; COMMIT;"
    )
