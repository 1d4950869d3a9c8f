"""Five times the load that the service can carry: what it carries stays what it was.

The requests come from hey (Debian's package of that name), which takes little of the processors
that the service is measured on.
"""

import contextlib
import csv
import io
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import httpx
import pytest

from tests.gate.figures import FULL, choose, find_percentile, report
from tests.helpers import LiveServer

TIMES = 5
ROUNDS = 6
# So many that waits for answers do not bring the rate down.
CLIENTS = 40


def start_client(server: LiveServer, photo: Path, seconds: float, rate: float | None) -> Popen[str]:
    """Start a client that sends a photo again and again, `rate` times a second at most."""
    limit = [] if rate is None else ["-q", f"{rate:.3f}"]
    once = ["-m", "POST", "-T", "image/jpeg", "-D", str(photo), "-t", "60"]
    command = ["hey", "-z", f"{seconds}s", "-c", "1", *limit, *once, "-o", "csv"]
    url = f"{server.url}/v1/image"
    return Popen([*command, url], stdout=PIPE, text=True)


def send(
    server: LiveServer, photo: Path, *, clients: int, seconds: float, rate: float | None = None
) -> dict[int, list[float]]:
    """Return the seconds of each answer by status; `rate` is of all clients, a second.

    They begin one after another: clients of one process would all send at the same moments.
    """
    started, pause_s = [], 0.0 if rate is None else 1 / rate
    for _ in range(clients):
        own = None if rate is None else rate / clients
        started.append(start_client(server, photo, seconds, own))
        time.sleep(pause_s)
    times_s: dict[int, list[float]] = {}
    for client in started:
        for row in csv.DictReader(io.StringIO(client.communicate()[0])):
            times_s.setdefault(int(row["status-code"]), []).append(float(row["response-time"]))
        assert client.returncode == 0
    return times_s


class Watch:
    """Asks meanwhile whether the service lives, and sends a photo to see how it is refused."""

    def __init__(self, server: LiveServer, photo: bytes) -> None:
        self.server, self.photo = server, photo
        self.livez_s: list[float] = []
        self.answers = self.refusals = self.without_retry = 0
        self.end = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.server.url, timeout=60) as client:
            while not self.end.wait(0.2):
                start_s = time.monotonic()
                assert client.get("/livez").status_code == 200
                self.livez_s.append(time.monotonic() - start_s)
                headers = {"Content-Type": "image/jpeg"}
                answer = client.post("/v1/image", content=self.photo, headers=headers)
                if answer.status_code == 200:
                    self.answers += 1
                elif answer.status_code == 429:
                    self.refusals += 1
                    self.without_retry += int(answer.headers.get("retry-after", "0")) < 1

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.end.clear()
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self.end.set()
            thread.join()


def measure_capacity(server: LiveServer, photo: Path, seconds: float) -> float:
    """Return the images a second that three clients get, each after its last answer."""
    answers = send(server, photo, clients=3, seconds=seconds)
    assert set(answers) == {200}
    return len(answers[200]) / seconds


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("hey") is None, reason="hey is not installed")
def test_goodput_holds_under_five_times_the_load(
    live_server, portrait_jpeg: bytes, tmp_path: Path
) -> None:
    server = live_server(decoders=2, max_requests=8)
    photo, seconds = tmp_path / "portrait.jpg", choose(3, 20)
    photo.write_bytes(portrait_jpeg)
    # By turns: a machine that is shared is now faster, now slower.
    capacities = [measure_capacity(server, photo, seconds / 2)]
    goods: list[float] = []
    answers: dict[int, list[float]] = {}
    watch = Watch(server, portrait_jpeg)
    for _ in range(ROUNDS):
        watched = watch.answers
        with watch.watching():
            sent = send(
                server, photo, clients=CLIENTS, seconds=seconds, rate=TIMES * capacities[-1]
            )
        for status, times_s in sent.items():
            answers.setdefault(status, []).extend(times_s)
        goods.append((len(sent[200]) + watch.answers - watched) / seconds)
        capacities.append(measure_capacity(server, photo, seconds / 2))
    capacity = statistics.mean(capacities)
    sent_by_watch = watch.answers + watch.refusals
    load = (sum(map(len, answers.values())) + sent_by_watch) / seconds / ROUNDS
    goodput = statistics.mean(goods)
    refused = answers.get(429, [0.0])
    figures = {
        "capacity, before and after": f"{', '.join(f'{c:.1f}' for c in capacities)} images/s",
        "load": f"{load:.1f} images/s for {ROUNDS} times {seconds} s",
        "goodput": f"{', '.join(f'{good:.1f}' for good in goods)} images/s",
        "goodput over capacity": f"{goodput / capacity:.2f}",
        "answers by status": {status: len(times) for status, times in answers.items()},
        "of the watch besides": {200: watch.answers, 429: watch.refusals},
        "refusals p99": f"{find_percentile(refused, 0.99) * 1000:.0f} ms",
        "`/livez` p99": f"{find_percentile(watch.livez_s, 0.99) * 1000:.0f} ms",
    }
    report("overload", figures)
    assert set(answers) == {200, 429}
    assert watch.refusals and not watch.without_retry and len(watch.livez_s) > 1
    if FULL:  # figures of a machine that has nothing else to do
        assert goodput >= 0.9 * capacity
        assert find_percentile(refused, 0.99) <= 0.05
        assert find_percentile(watch.livez_s, 0.99) <= 0.1
