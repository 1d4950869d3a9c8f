"""`make bench`: start-up time, throughput under load, and the overhead of serving.

Everything is measured in one run on one machine, the providers by turns, and the network's own
speed is measured beside it, so the figure to read is the ratio. Prints a Markdown table for
RESULTS.md.
"""

import argparse
import contextlib
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from skimage import data

from service.inference.engine import OnnxEngine
from service.inference.preprocessing import fit_to_network
from service.inference.providers import Device, DeviceError
from service.settings import Settings
from training.evaluation.results import format_table

DEVICES: tuple[Device, ...] = ("cpu", "openvino", "cuda")
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
            wait_until_ready(port, process)
            yield port, time.perf_counter() - start_s
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def wait_until_ready(port: int, process: "subprocess.Popen[bytes] | psutil.Popen") -> None:
    """Wait until the service takes work; raises SystemExit when it never does."""
    start_s = time.perf_counter()
    while ask(port, "GET", "/readyz")[0] != 200:
        if time.perf_counter() - start_s > START_LIMIT_S or process.poll() is not None:
            raise SystemExit("the service did not become ready")
        time.sleep(0.01)


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


def measure_bare(photo: np.ndarray, device: Device, seconds: float) -> float:
    """Return images a second of `session.run` alone, on the input the service would make."""
    settings = Settings(device=device)
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


@dataclass
class Measured:
    """What was measured on one provider; rates are images a second."""

    provider: str
    ready_s: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    served: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    probes: list[float] = field(default_factory=list)


def find_devices() -> dict[Device, Measured]:
    """Return the devices that this machine has, nothing measured yet."""
    found: dict[Device, Measured] = {}
    for device in DEVICES:
        with contextlib.suppress(DeviceError):
            engine = OnnxEngine(Settings(device=device))
            found[device] = Measured(
                f"{engine.provider.removesuffix('ExecutionProvider')}, {engine.precision}"
            )
    return found


def list_rows(side: int) -> list[tuple[str, Callable[[Measured], str]]]:
    """Return what each row of the table says of a provider."""

    def quantile_ms(values: list[float], q: float) -> str:
        return f"{float(np.quantile(values, q)) * 1000:.1f} ms"

    return [
        ("ready after, median", lambda m: f"{statistics.median(m.ready_s):.2f} s"),
        ("ready after, worst", lambda m: f"{max(m.ready_s):.2f} s"),
        (f"`/livez` under {CLIENTS} clients, p50", lambda m: quantile_ms(m.probes, 0.5)),
        (f"`/livez` under {CLIENTS} clients, p99", lambda m: quantile_ms(m.probes, 0.99)),
        (
            "bare `session.run`, before and after, images/s",
            lambda m: ", ".join(f"{rate:.2f}" for rate in m.bare),
        ),
        (f"served, {side} x {side} JPEG to alpha PNG, images/s", lambda m: f"{m.served:.2f}"),
        ("**served over bare**", lambda m: f"**{m.served / statistics.mean(m.bare):.2f}**"),
        ("answers by status", lambda m: f"{dict(sorted(m.statuses.items()))}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of each measurement")
    parser.add_argument("--starts", type=int, default=5, help="how often the service is started")
    parser.add_argument("--side", type=int, default=1024, help="side of the photo, pixels")
    options = parser.parse_args()
    photo = make_photo(options.side)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=90)
    measured = find_devices()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=(options.starts + 3) * len(measured))
        for _ in range(options.starts):
            for device, found in measured.items():
                with serve(device=device) as (_, taken_s):
                    found.ready_s.append(taken_s)
                progress.advance(task)
        for step in ("bare", "served", "bare"):
            for device, found in measured.items():
                if step == "bare":
                    found.bare.append(measure_bare(photo, device, options.seconds / 2))
                else:
                    with serve(device=device) as (port, _):
                        found.served, found.statuses, found.probes = measure_load(
                            port, buffer.getvalue(), options.seconds
                        )
                progress.advance(task)
    print(f"### {describe_run('make bench')}\n")
    print(f"{options.starts} starts, {options.seconds:g} s under load, providers by turns.\n")
    rows = [
        [what, *(tell(found) for found in measured.values())]
        for what, tell in list_rows(options.side)
    ]
    print(format_table(["what", *(found.provider for found in measured.values())], rows))


if __name__ == "__main__":
    main()
