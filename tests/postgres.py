"""Debian's PostgreSQL, started for a test by a user that is not root."""

import getpass
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.helpers import find_free_port

# initdb and the server refuse to run as root; Debian's package makes this user.
USER = "postgres" if os.geteuid() == 0 else getpass.getuser()
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
needs_postgres = pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not installed")


class Postgres:
    """A server with a folder of its own, on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, find_free_port()

    def run(self, name: str, *flags: str) -> None:
        command = [str(BINARIES[-1].with_name(name)), *flags]
        subprocess.run(
            command, check=True, cwd="/", user=USER, env={"LC_ALL": "C"}, stdout=subprocess.DEVNULL
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        self.run(
            "pg_ctl", "start", "-w", "-D", f"{self.folder}/data", "-o", options,
            "-l", f"{self.folder}/log",
        )  # fmt: skip

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", f"{self.folder}/data")

    def make_database(self) -> str:
        """Return the URL of a new database."""
        name = f"d{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    """Run a server as long as the `with` block."""
    folder = Path(tempfile.mkdtemp(prefix="matting-postgres-"))
    try:
        shutil.chown(folder, USER)
        server = Postgres(folder)
        server.run("initdb", "-E", "UTF8", "-A", "trust", "-U", USER, "-N", "-D", f"{folder}/data")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
