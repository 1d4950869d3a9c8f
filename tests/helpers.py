"""What several tests need: waiting without sleeping blindly, real servers, raw connections."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from PIL import Image

from service.settings import ENV_PREFIX

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 180
EXIT_TIMEOUT_S = 40


def wait_until(condition: Callable[[], T], timeout_s: float = 10, every_s: float = 0.01) -> T:
    """Return the first true value of `condition`; fail when none comes in time."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, "the condition did not come true in time"
        time.sleep(every_s)
    return value


def encode(image: np.ndarray | Image.Image, format: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(content: bytes) -> np.ndarray:
    """Return the pixels of an image file in its own mode."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def assert_problem(response, status: int, code: str) -> dict:
    """Assert that a response is the problem document of `code`, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status and problem["code"] == code, problem
    assert problem["type"] == f"/problems/{code}"
    assert problem["instance"] == response.headers["x-request-id"]
    assert problem["title"] and problem["detail"]
    return problem


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_environ(**settings: object) -> dict[str, str]:
    """Return the environment of a child process with these settings and no others.

    None leaves a setting at its default.
    """
    environ = {k: v for k, v in os.environ.items() if not k.upper().startswith(ENV_PREFIX)}
    for name, value in settings.items():
        if value is not None:
            environ[ENV_PREFIX + name.upper()] = str(value)
    return environ


def run_service(*flags: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m service`, in a data folder of its own, until it ends by itself."""
    with tempfile.TemporaryDirectory(prefix="matting-test-") as folder:
        return subprocess.run(
            [sys.executable, "-m", "service", *flags],
            cwd=ROOT,
            env=make_environ(**({"data_dir": folder} | settings)),
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
        )


@dataclass(frozen=True)
class LiveServer:
    """A service in a process of its own."""

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def is_ready(self) -> bool:
        assert self.is_alive(), self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self) -> int:
        """Ask it to end as Kubernetes does and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(EXIT_TIMEOUT_S)


def start_live_server(log: Path, *prefix: str, **settings: object) -> LiveServer:
    """Start `python -m service` on a free port and wait until it is ready."""
    server = launch_server(log, *prefix, **settings)
    try:
        wait_until(server.is_ready, START_TIMEOUT_S)
    except BaseException:
        server.process.kill()
        server.process.wait()
        raise
    return server


def launch_server(log: Path, *prefix: str, **settings: object) -> LiveServer:
    """Start `python -m service`, run by the command `prefix`, and do not wait for it."""
    port = find_free_port()
    own = {"port": port, "decoders": 1, "disk_min_free_percent": 0, "drain_delay_s": 0}
    own |= settings
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "service"],
            cwd=ROOT,
            env=make_environ(**own),
            stdout=output,
            stderr=output,
        )
    return LiveServer(process, port, log)


def list_decoders(pid: int | None = None) -> set[psutil.Process]:
    """Return the decoder children of a process, this one by default."""
    found = set()
    for template in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= set(template.children())
    return found


class RawConnection:
    """A TCP connection for requests that no HTTP library would send."""

    def __init__(self, port: int, timeout_s: float = 10) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_head(self, line: str, **headers: object) -> None:
        """Send a request line and headers (`_` in names stands for `-`)."""
        lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def receive_response(self) -> "RawResponse":
        """Return the status, the headers and the body of one answer with a Content-Length."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self._socket.recv(65536)
            assert chunk, f"the connection ended after {data!r}"
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        while len(body) < int(headers["content-length"]):
            body += self._socket.recv(65536)
        return RawResponse(int(status_line.split()[1]), headers, body)

    def is_closed_by_server(self) -> bool:
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: dict[str, str]
    body: bytes


@contextlib.contextmanager
def connect(port: int) -> Iterator[RawConnection]:
    """Open a raw connection for a `with` block."""
    connection = RawConnection(port)
    try:
        yield connection
    finally:
        connection.close()


def post_image(client, data: bytes, content_type: str = "application/octet-stream", **options):
    """Send the bytes of an image as they are, options in the query."""
    headers = {"Content-Type": content_type}
    return client.post("/v1/image", content=data, headers=headers, params=options)


def read_metric(client, name: str, /, **labels: str) -> float:
    """Return one sample of `/metrics`, 0 when there is none."""
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


class Exchange:
    """One request on the event loop of a client's app, message by message.

    It can do what no HTTP library does: stop half-way, or leave.
    """

    def __init__(
        self,
        client,
        path: str,
        body: bytes,
        *,
        is_whole: bool = True,
        method: str = "POST",
        content_type: bytes = b"application/octet-stream",
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.sent: list[dict] = []
        self._client = client
        self._messages: asyncio.Queue[dict] = asyncio.Queue()
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"test"), (b"content-type", content_type), *headers],
            "client": ("test", 1),
            "server": ("test", 80),
        }
        self._push({"type": "http.request", "body": body, "more_body": not is_whole})
        self._done = client.portal.start_task_soon(self._run)

    def disconnect(self) -> None:
        self._push({"type": "http.disconnect"})

    def wait(self, timeout_s: float = 10) -> None:
        """Return when the app is done with the request."""
        self._done.result(timeout_s)

    def _push(self, message: dict) -> None:
        self._client.portal.call(self._messages.put_nowait, message)

    async def _run(self) -> None:
        async def send(message: dict) -> None:
            self.sent.append(message)

        await self._client.app(self._scope, self._messages.get, send)
