"""`make bench`: start-up time, throughput under load, and the overhead of serving.

Everything is measured in one run on one machine and the network's own speed is measured beside it,
so the figure to read is the ratio. Prints a Markdown table for RESULTS.md.
"""

import argparse
import datetime
import http.client
import io
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from skimage import data

from service.inference.engine import OnnxEngine
from service.inference.preprocessing import fit_to_network
from service.settings import Settings

CLIENTS = 8
PROBE_EVERY_S = 0.05
START_LIMIT_S = 60.0


def find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serve(**settings: object) -> Iterator[tuple[int, float]]:
    """Start the service; yield its port and the seconds until it was ready."""
    environ = {f"MATTING_{name.upper()}": str(value) for name, value in settings.items()}
    port = find_free_port()
    start_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as data_dir:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", str(port)],
            env={
                **os.environ,
                "MATTING_LOG_LEVEL": "warning",
                "MATTING_DATA_DIR": data_dir,
                **environ,
            },
        )
        try:
            while ask(port, "GET", "/readyz")[0] != 200:
                if time.perf_counter() - start_s > START_LIMIT_S or process.poll() is not None:
                    raise SystemExit("the service did not become ready")
                time.sleep(0.01)
            yield port, time.perf_counter() - start_s
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, float]:
    """Return the status (0: no connection) and the seconds of one request."""
    start_s = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "image/jpeg"} if body else {})
        response = connection.getresponse()
        response.read()
        return response.status, time.perf_counter() - start_s
    except OSError:
        return 0, time.perf_counter() - start_s
    finally:
        connection.close()


def describe_run(command: str) -> str:
    """Return the date, the command and the machine of a measurement."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return f"{datetime.date.today()}, `{command}`, {machine}"


def make_photo(side: int) -> np.ndarray:
    """Return scikit-image's portrait of an astronaut as (side, side, 3) uint8 RGB."""
    return np.asarray(Image.fromarray(data.astronaut()).resize((side, side), Image.LANCZOS))


def measure_bare(photo: np.ndarray, seconds: float) -> float:
    """Return images a second of `session.run` alone, on the input the service would make."""
    settings = Settings()
    engine = OnnxEngine(settings)
    tensor = fit_to_network(photo, engine.info, None, settings.network_max_megapixels)
    batch = tensor[np.newaxis]
    engine.run(batch)
    end_s = time.perf_counter() + seconds
    start_s = time.perf_counter()
    count = 0
    while time.perf_counter() < end_s:
        engine.run(batch)
        count += 1
    return count / (time.perf_counter() - start_s)


def measure_load(port: int, jpeg: bytes, seconds: float) -> tuple[float, Counter[int], list[float]]:
    """Return images a second, answers by status, and seconds of each /livez, under 8 clients.

    Closed loop: each client sends its next photo when the last one is answered, and waits a
    little after a 429.
    """
    end_s = time.perf_counter() + seconds
    statuses: Counter[int] = Counter()
    probes: list[float] = []

    def post() -> None:
        while time.perf_counter() < end_s:
            status, _ = ask(port, "POST", "/v1/image", jpeg)
            statuses[status] += 1
            if status == 429:
                time.sleep(0.2)

    def probe() -> None:
        while time.perf_counter() < end_s:
            status, taken_s = ask(port, "GET", "/livez")
            probes.append(taken_s if status == 200 else float("inf"))
            time.sleep(PROBE_EVERY_S)

    threads = [threading.Thread(target=post) for _ in range(CLIENTS)]
    threads.append(threading.Thread(target=probe))
    start_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses[200] / (time.perf_counter() - start_s), statuses, probes


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of each measurement")
    parser.add_argument("--starts", type=int, default=5, help="how often the service is started")
    parser.add_argument("--side", type=int, default=1024, help="side of the photo, pixels")
    options = parser.parse_args()
    photo = make_photo(options.side)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=90)
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task("measuring", total=options.starts + 3)
        ready_s = []
        for _ in range(options.starts):
            with serve() as (_, taken_s):
                ready_s.append(taken_s)
            progress.advance(task)
        bare = [measure_bare(photo, options.seconds / 2)]
        progress.advance(task)
        with serve() as (port, _):
            served, statuses, probes = measure_load(port, buffer.getvalue(), options.seconds)
        progress.advance(task)
        bare.append(measure_bare(photo, options.seconds / 2))
        progress.advance(task)
    bare_rate = statistics.mean(bare)
    p50_ms, p99_ms = (float(np.quantile(probes, q)) * 1000 for q in (0.5, 0.99))
    print(f"### {describe_run('make bench')}\n")
    print("| what | measured |\n|---|---|")
    print(f"| ready after, median of {len(ready_s)} | {statistics.median(ready_s):.2f} s |")
    print(f"| ready after, worst | {max(ready_s):.2f} s |")
    print(f"| `/livez` under {CLIENTS} clients, p50 | {p50_ms:.1f} ms |")
    print(f"| `/livez` under {CLIENTS} clients, p99 of {len(probes)} | {p99_ms:.1f} ms |")
    print(f"| bare `session.run`, before and after | {bare[0]:.2f}, {bare[1]:.2f} images/s |")
    print(f"| served, {options.side} x {options.side} JPEG to alpha PNG | {served:.2f} images/s |")
    print(f"| **served over bare** | **{served / bare_rate:.2f}** |")
    print(f"| answers by status | {dict(sorted(statuses.items()))} |")


if __name__ == "__main__":
    main()
