"""Thousands of mixed requests leave nothing behind: memory, descriptors, files, children."""

import http.client
import os
import random
import socket
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.gate.figures import choose, follow, report
from tests.gate.mutants import damage, make_images
from tests.helpers import LiveServer, wait_until
from tests.memory import count_bytes

DRIFT_BYTES = 32 * 2**20
SAMPLES = 30


def use(server: LiveServer, kind: str, content: bytes) -> None:
    """Send one request: a good one, a damaged one, or one that is broken off."""
    if kind == "aborted":
        head = "POST /v1/image HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
            peer.sendall(content[: len(content) // 2])
        return
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", "/v1/image?ref_size=64", content, {"Content-Type": "image/png"})
        connection.getresponse().read()
    finally:
        connection.close()


def measure_drift(sample: Callable[[], int], work: Callable[[], None]) -> tuple[int, list[int]]:
    """Return the median of the last third less that of the second, and all samples.

    The first third is not counted: arenas fill up.
    """
    samples = []
    for _ in follow(range(SAMPLES), SAMPLES, "soak, samples of memory"):
        work()
        samples.append(sample())
    third = SAMPLES // 3
    last, middle = samples[-third:], samples[third : 2 * third]
    return int(statistics.median(last) - statistics.median(middle)), samples


def count_open(server: LiveServer) -> dict[str, int]:
    process = psutil.Process(server.pid)
    return {
        "descriptors": process.num_fds(),
        "children": len(process.children(recursive=True)),
    }


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_mixed_requests_leave_nothing_behind(live_server, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    server = live_server(decoders=2, data_dir=data_dir, queue_s=60)
    chance, count = random.Random(3), choose(600, 10_000)
    images = list(make_images().values())

    def make_request(_: int) -> tuple[str, bytes]:
        kind = chance.choices(("good", "malformed", "aborted"), (70, 20, 10))[0]
        image = chance.choice(images)
        return kind, damage(image, chance) if kind == "malformed" else image

    def work() -> None:
        batch = [make_request(number) for number in range(count // SAMPLES)]
        list(threads.map(lambda request: use(server, *request), batch))

    before = count_open(server)
    with ThreadPoolExecutor(4) as threads:
        drift, samples = measure_drift(lambda: count_bytes(server), work)
    wait_until(lambda: count_open(server) == before, 90)
    files = [path for path in data_dir.rglob("*") if path.is_file() and path.name != "lock"]
    left = [path.name for path in files if not path.name.startswith("jobs.sqlite3")]
    report(
        "soak",
        {
            "requests": f"{count}: 70 % good, 20 % malformed, 10 % aborted",
            "drift of memory": f"{drift / 2**20:+.1f} MiB",
            "most memory": f"{max(samples) / 2**20:.0f} MiB",
            "descriptors and children, before and after": before,
            "files left": len(left),
        },
    )
    assert drift <= DRIFT_BYTES and not left
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_soak_finds_a_leak() -> None:
    """The measure itself must see what it is there for."""
    process, leak = psutil.Process(os.getpid()), []

    def work() -> None:
        leak.append(bytearray(os.urandom(2**20)) * 8)

    drift, _ = measure_drift(lambda: process.memory_info().rss, work)
    assert drift > DRIFT_BYTES
