"""`make bench-clients`: throughput and latency of photos from 1 to 64 clients, table and plot.

Each client sends its next photo over its own connection when the last one is answered. By Little's
law that many clients wait at least their number divided by the throughput: p99 over that is the
figure to read, and throughput over that of one client. The clients' own work runs on the same
cores. Writes docs/clients.png and prints a Markdown table for RESULTS.md.
"""

import argparse
import http.client
import io
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.serving import describe_run, make_photo, serve
from training.evaluation.results import format_table

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
OUT = Path(__file__).parent.parent / "docs" / "clients.png"
# Whatever waits is served: refusals are not the subject.
SETTINGS = {"max_requests": 2 * CLIENTS[-1], "queue_s": 600, "request_timeout_s": 600}
TIMEOUT_S = 600


def measure(port: int, jpeg: bytes, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Return photos a second and the seconds of each; raises SystemExit when one is refused."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    start_s = time.perf_counter()

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "image/jpeg"}
        while (sent_s := time.perf_counter()) < start_s + seconds:
            connection.request("POST", "/v1/image", jpeg, headers)
            response = connection.getresponse()
            response.read()
            taken.append(time.perf_counter() - sent_s)
            statuses[response.status] += 1
        connection.close()

    threads = [threading.Thread(target=post) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if set(statuses) != {200}:
        raise SystemExit(f"{clients} clients: {dict(statuses)}")
    return len(taken) / (time.perf_counter() - start_s), taken


def draw(rates: list[float], quantiles: list[tuple[float, ...]]) -> None:
    """Draw throughput and latency over the number of clients."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(CLIENTS, rates, marker="o", color="#00798c")
    left.set(ylim=(0, 1.25 * max(rates)), ylabel="photos a second")
    for name, values in zip(("p50", "p95", "p99"), zip(*quantiles, strict=True), strict=True):
        right.plot(CLIENTS, values, marker="o", label=name)
    least = [count / rates[0] for count in CLIENTS]
    right.plot(CLIENTS, least, linestyle=":", color="#33373d", label="clients / rate of one")
    right.set(yscale="log", ylabel="seconds for a photo")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="clients")
        axes.set_xticks(CLIENTS, map(str, CLIENTS))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-clients", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of each measurement")
    parser.add_argument("--side", type=int, default=1024, help="side of the photo, pixels")
    options = parser.parse_args()
    buffer = io.BytesIO()
    Image.fromarray(make_photo(options.side)).save(buffer, "JPEG", quality=90)
    rates, quantiles, rows = [], [], []
    with serve(**SETTINGS) as (port, _):
        measure(port, buffer.getvalue(), 1, 2)  # warm
        steps = track(CLIENTS, "measuring", console=Console(file=sys.stderr))
        for clients in steps:
            rate, taken = measure(port, buffer.getvalue(), clients, options.seconds)
            rates.append(rate)
            quantiles.append(tuple(np.quantile(taken, (0.5, 0.95, 0.99))))
    for clients, rate, (p50, p95, p99) in zip(CLIENTS, rates, quantiles, strict=True):
        ratios = f"{rate / rates[0]:.2f}", f"{p99 / (clients / rate):.2f}"
        rows.append([str(clients), f"{rate:.2f}", *(f"{s:.2f}" for s in (p50, p95, p99)), *ratios])
    draw(rates, quantiles)
    print(f"### {describe_run('make bench-clients')}\n")
    names = ["clients", "photos/s", "p50 s", "p95 s", "p99 s", "rate over one's", "p99 over least"]
    print(format_table(names, rows))


if __name__ == "__main__":
    main()
