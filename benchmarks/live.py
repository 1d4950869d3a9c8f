"""`make bench-live`: frames a second and latency of live sockets, for 1, 4 and 16 clients.

Each client sends JPEGs at the rate of a webcam, whatever comes back; what the service cannot do in
time it leaves out. Latency is the service's own `latency_ms`, from a frame's arrival to its answer;
with smoothing a frame waits for the next one, so it has one period of the client's answers in it.
Prints a Markdown table for RESULTS.md.
"""

import argparse
import asyncio
import io
import json
import time
import urllib.request
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.serving import describe_run, make_photo, serve
from training.evaluation.results import format_table

CLIENTS = (1, 4, 16)
SIZES = {"640 x 360": (640, 360), "1280 x 720": (1280, 720)}
WEBCAM_FPS = 30
PICTURES = 12  # that each client sends in turn


@dataclass
class Measured:
    """What came back to the clients of one run."""

    seconds: float = 0.0
    sent: int = 0
    dropped: int = 0
    latencies_ms: list[float] = field(default_factory=list)


def make_frames(size: tuple[int, int]) -> list[bytes]:
    """Return JPEGs of a person who moves from side to side."""
    width, height = size
    photo = Image.fromarray(make_photo(height))
    frames = []
    for index in range(PICTURES):
        scene = Image.new("RGB", size, (180, 190, 200))
        scene.paste(photo, ((width - height) // 2 + 4 * abs(index - PICTURES // 2), 0))
        buffer = io.BytesIO()
        scene.save(buffer, "JPEG", quality=90)
        frames.append(buffer.getvalue())
    return frames


def open_session(port: int, session: dict[str, object]) -> dict[str, str]:
    """Return the document of a new session, whose results are JPEGs."""
    options = {"packaging": "frames", "format": "jpeg"} | session
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/sessions",
        json.dumps(options).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


async def send_frames(socket: ClientConnection, frames: list[bytes], end_s: float) -> int:
    """Send at the rate of a webcam until `end_s`; return how many."""
    start_s, count = time.perf_counter(), 0
    while time.perf_counter() < end_s:
        await socket.send(frames[count % len(frames)])
        count += 1
        await asyncio.sleep(max(0.0, start_s + count / WEBCAM_FPS - time.perf_counter()))
    return count


async def run_client(
    port: int, frames: list[bytes], session: dict[str, object], end_s: float, measured: Measured
) -> None:
    """Be one client until `end_s`."""
    opened = await asyncio.to_thread(open_session, port, session)
    url = f"ws://127.0.0.1:{port}/v1/sessions/{opened['id']}/live"
    protocols = ["matting.v1", f"ticket.{opened['ticket']}"]
    dropped = 0

    async def receive(socket: ClientConnection) -> None:
        nonlocal dropped
        async for message in socket:
            if isinstance(message, str):
                facts = json.loads(message)
                measured.latencies_ms.append(facts["latency_ms"])
                dropped = facts["dropped"]

    async with connect(url, subprotocols=protocols, compression=None, max_size=None) as socket:
        receiving = asyncio.create_task(receive(socket))
        sent = await send_frames(socket, frames, end_s)
    await receiving
    measured.sent += sent
    measured.dropped += dropped


async def measure(
    port: int, clients: int, frames: list[bytes], session: dict[str, object], seconds: float
) -> Measured:
    """Run so many clients beside each other for some seconds."""
    measured = Measured(seconds=seconds)
    end_s = time.perf_counter() + seconds
    runs = (run_client(port, frames, session, end_s, measured) for _ in range(clients))
    await asyncio.gather(*runs)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-live", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="length of each measurement")
    parser.add_argument("--smoothing", choices=("ofd", "off"), default="ofd")
    parser.add_argument(
        "--output",
        choices=("composite", "alpha"),
        default="composite",
        help="alpha: as the page asks for, which composites by itself",
    )
    parser.add_argument("--ref-size", type=int, help="shorter side at the network")
    options = parser.parse_args()
    session: dict[str, object] = {"smoothing": options.smoothing, "output": options.output}
    if options.ref_size:
        session["ref_size"] = options.ref_size
    rows = []
    most = {"max_sessions": 100, "max_sessions_per_key": 100}
    with Progress(console=Console(stderr=True)) as progress, serve(**most) as (port, _):
        task = progress.add_task("measuring", total=len(SIZES) * len(CLIENTS))
        for name, size in SIZES.items():
            frames = make_frames(size)
            asyncio.run(measure(port, 1, frames, session, 1))  # warm
            for clients in CLIENTS:
                found = asyncio.run(measure(port, clients, frames, session, options.seconds))
                rows.append(describe(name, clients, found))
                progress.advance(task)
    told = ", ".join(f"{name}={value}" for name, value in session.items())
    print(f"### {describe_run('make bench-live')}, {told}\n")
    titles = ["frames", "clients", "answers/s", "of each", "latency p50", "p95", "dropped"]
    print(format_table(titles, rows))


def describe(name: str, clients: int, found: Measured) -> list[str]:
    """Return the cells of one row."""
    rate = len(found.latencies_ms) / found.seconds
    p50_ms, p95_ms = np.quantile(found.latencies_ms, (0.5, 0.95)) if rate else (np.nan, np.nan)
    dropped = found.dropped / found.sent
    times = f"{p50_ms:.0f} ms", f"{p95_ms:.0f} ms"
    return [name, str(clients), f"{rate:.1f}", f"{rate / clients:.1f}", *times, f"{dropped:.0%}"]


if __name__ == "__main__":
    main()
