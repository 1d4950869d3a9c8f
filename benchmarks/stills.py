"""`make bench-stills`: latency of a photo over HTTP against the sum of its bare stages.

Request and stages take turns in one run, so that the machine's noise meets both alike; the figures
to read are the ratios of the medians. `over all`: over the stages called directly; `over its own`:
over those that the request itself names in Server-Timing. Prints a Markdown table for RESULTS.md.
"""

import argparse
import http.client
import io
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from benchmarks.serving import describe_run, make_photo, serve
from service.inference.engine import OnnxEngine
from service.inference.photos import prepare_passes, run_passes
from service.matting.cleanup import settle_ends
from service.matting.composite import quantise_alpha
from service.matting.refine import refine_alpha
from service.media.image.writer import encode_image
from service.memory import keep_freed_memory
from service.settings import Settings
from training.evaluation.results import format_table

PHOTOS = {"2 MP": 1414, "24 MP": 4899}  # sides in pixels
T = TypeVar("T")
DURATIONS = re.compile(r"dur=([0-9.]+)")  # of Server-Timing, in milliseconds
STAGES = ("decode", "shrink", "network", "refine", "png")


def decode(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def time_stages(engine: OnnxEngine, settings: Settings, jpeg: bytes) -> dict[str, float]:
    """Return the seconds of each stage, called directly in this process."""
    seconds = {}

    def measure(name: str, function: Callable[[], T]) -> T:
        start_s = time.perf_counter()
        result = function()
        seconds[name] = time.perf_counter() - start_s
        return result

    image = measure("decode", lambda: decode(jpeg))
    limit = settings.network_max_megapixels
    passes = measure("shrink", lambda: prepare_passes(image, engine.info, limit))
    matte = measure("network", lambda: run_passes(engine, passes))
    network_image = passes[-1][1]
    alpha = measure("refine", lambda: settle_ends(refine_alpha(image, matte, network_image)))
    grey = quantise_alpha(alpha)
    measure("png", lambda: encode_image(grey, "png", quality=90, compression=1))
    return seconds


def time_request(connection: http.client.HTTPConnection, jpeg: bytes) -> tuple[float, float]:
    """Return the seconds of one request on an open connection, and of its own stages."""
    start_s = time.perf_counter()
    connection.request("POST", "/v1/image", jpeg, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    response.read()
    seconds = time.perf_counter() - start_s
    assert response.status == 200, response.status
    return seconds, sum(map(float, DURATIONS.findall(response.headers["Server-Timing"]))) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-stills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="requests of each size")
    parser.add_argument("--model", type=Path, help="another network than the default, .onnx")
    options = parser.parse_args()
    keep_freed_memory()  # as the service does
    own = {} if options.model is None else {"model_path": options.model.resolve()}
    settings = Settings(**own)
    engine = OnnxEngine(settings)
    rows = []
    with Progress(console=Console(stderr=True)) as progress, serve(**own) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        task = progress.add_task("measuring", total=len(PHOTOS) * options.rounds)
        for name, side in PHOTOS.items():
            buffer = io.BytesIO()
            Image.fromarray(make_photo(side)).save(buffer, "JPEG", quality=90)
            jpeg = buffer.getvalue()
            time_request(connection, jpeg), time_stages(engine, settings, jpeg)  # warm
            requests, stages = [], []
            for _ in range(options.rounds):
                requests.append(time_request(connection, jpeg))
                stages.append(time_stages(engine, settings, jpeg))
                progress.advance(task)
            median = {stage: statistics.median(s[stage] for s in stages) for stage in STAGES}
            request_s, own_s = (statistics.median(column) for column in zip(*requests, strict=True))
            rows.append((name, request_s, own_s, median))
    titles = ["JPEG to alpha PNG", "decode", "shrink", "network", "refine", "PNG", "request"]
    cells = []
    for name, request_s, own_s, stage in rows:
        times_s = [*(stage[s] for s in STAGES), request_s]
        ratios = (request_s / base_s for base_s in (stage["network"], sum(stage.values()), own_s))
        texts = [f"{s * 1000:.0f} ms" for s in times_s], [f"{ratio:.2f}" for ratio in ratios]
        cells.append([name, *texts[0], *texts[1]])
    print(f"### {describe_run('make bench-stills')}\n")
    print(format_table([*titles, "over network", "over all", "over its own"], cells))


if __name__ == "__main__":
    main()
