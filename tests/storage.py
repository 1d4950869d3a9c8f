"""A real S3 server (moto), started for a test in a process of its own."""

import contextlib
import importlib.util
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers import find_free_port, wait_until

START_S = 60
has_storage = all(importlib.util.find_spec(name) for name in ("moto", "obstore"))
needs_storage = pytest.mark.skipif(not has_storage, reason="moto or obstore is not installed")


@dataclass
class S3:
    """A server on a free port of this machine; its buckets are gone when it stops."""

    port: int = field(default_factory=find_free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which a service finds it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "name",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        command = Path(sys.executable).with_name("moto_server")
        self.process = subprocess.Popen(
            [str(command), "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.is_open, START_S)

    def is_open(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def make_bucket(self) -> str:
        """Return the URL of a folder in a new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:16]}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request).close()
        return f"s3://{name}/some/folder"


@contextlib.contextmanager
def run_s3() -> Iterator[S3]:
    """Run a server as long as the `with` block."""
    server = S3()
    server.start()
    try:
        yield server
    finally:
        server.stop()
