"""Five times the load that the service can carry: what it carries stays what it was.

The requests come from h2load (Debian's nghttp2-client), which takes little of the processors that
the service is measured on: half of what hey takes.
"""

import contextlib
import math
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen

import httpx
import pytest

from tests.gate.figures import FULL, choose, find_percentile, report
from tests.helpers import LiveServer

TIMES = 5
ROUNDS = 6
# So many that waits for answers do not bring the rate down.
CLIENTS = 40
START_S = 1.0  # until all of them send


def send(
    server: LiveServer, photo: Path, *, clients: int, seconds: float, rate: float | None = None
) -> tuple[dict[int, list[float]], float]:
    """Return the seconds of each answer by status, and when the first counts (seconds since 1970).

    `rate` is of all clients, a second. Clients of one process would all send at the same moments:
    these are processes that begin one after another. Answers count from when all have begun,
    `seconds` long.
    """
    pause_s = START_S / clients
    if rate is None:
        until = ["-D", str(math.ceil(seconds + START_S + 1))]
    else:
        count = math.ceil((seconds + START_S + 1) * rate / clients)
        until = ["-n", str(count), f"--rps={rate / clients:.3f}"]
    begin_s = time.time() + START_S
    logs = [photo.with_name(f"answers-{number}") for number in range(clients)]
    started = []
    for path in logs:
        path.unlink(missing_ok=True)
        request = ["-d", str(photo), "-H", "content-type: image/jpeg", f"{server.url}/v1/image"]
        command = ["h2load", "--h1", "-c", "1", *until, "--log-file", str(path), *request]
        started.append(Popen(command, stdout=DEVNULL))
        time.sleep(pause_s)
    for client in started:
        assert client.wait() == 0
    times_s: dict[int, list[float]] = {}
    for line in "".join(path.read_text() for path in logs).splitlines():
        start_us, status, duration_us = map(int, line.split())
        if begin_s <= (start_us + duration_us) / 1e6 < begin_s + seconds:
            times_s.setdefault(status, []).append(duration_us / 1e6)
    return times_s, begin_s


class Watch:
    """Asks meanwhile whether the service lives, and sends a photo to see how it is refused."""

    def __init__(self, server: LiveServer, photo: bytes) -> None:
        self.server, self.photo = server, photo
        self.livez_s: list[float] = []
        self.answered_s: list[float] = []  # when, in seconds since 1970
        self.refusals = self.without_retry = 0
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
                    self.answered_s.append(time.time())
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
    answers, _ = send(server, photo, clients=3, seconds=seconds)
    assert set(answers) == {200}
    return len(answers[200]) / seconds


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
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
        with watch.watching():
            sent, begin_s = send(
                server, photo, clients=CLIENTS, seconds=seconds, rate=TIMES * capacities[-1]
            )
        for status, times_s in sent.items():
            answers.setdefault(status, []).extend(times_s)
        watched = sum(begin_s <= end_s < begin_s + seconds for end_s in watch.answered_s)
        goods.append((len(sent[200]) + watched) / seconds)
        capacities.append(measure_capacity(server, photo, seconds / 2))
    capacity = statistics.mean(capacities)
    load = sum(map(len, answers.values())) / seconds / ROUNDS
    goodput = statistics.mean(goods)
    refused = answers.get(429, [0.0])
    figures = {
        "capacity, before and after": f"{', '.join(f'{c:.1f}' for c in capacities)} images/s",
        "load": f"{load:.1f} images/s for {ROUNDS} times {seconds} s",
        "goodput": f"{', '.join(f'{good:.1f}' for good in goods)} images/s",
        "goodput over capacity": f"{goodput / capacity:.2f}",
        "answers by status": {status: len(times) for status, times in answers.items()},
        "of the watch besides": {200: len(watch.answered_s), 429: watch.refusals},
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
