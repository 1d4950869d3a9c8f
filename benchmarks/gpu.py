"""`python -m benchmarks.gpu`: what a GPU does, in under eight minutes on a fresh machine.

Latency of one picture, pictures a second over batches, in single and half precision and with pixels
for input, and clips from file to file. Each figure is measured for `--seconds`, those of the clips
for one clip each; what does not fit into `--budget` any more is left out and says so. Half
precision and the input of pixels are made of the model by `export`, an extra. `--write`
puts the tables in the place of the older ones in RESULTS.md.
"""

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.engines import make_batch
from benchmarks.serving import describe_run
from benchmarks.video import make_clip, time_clip
from service.inference.engine import InferenceError, OnnxEngine
from service.inference.models import inspect_model, read_model
from service.inference.preprocessing import choose_size
from service.inference.providers import DeviceError
from service.metrics import Metrics
from service.runtime import Runtime
from service.settings import DEFAULT_MODEL, Settings, load_settings
from training.evaluation.results import format_table

BATCHES = (1, 2, 4, 8, 16, 32)
REF_SIZES = (320, 512)
FRAME = (1080, 1920)
OUTPUTS = ("alpha", "composite", "webm")
RESULTS = Path(__file__).parent / "RESULTS.md"
HEADING = "## GPU"
NOT_MEASURED = "not measured"


class Budget:
    """The time that is left of `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    def allows(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self._end_s


def open_engine(path: Path, device: str, most: int) -> OnnxEngine:
    settings = Settings(model_path=path, device=device, max_batch_size=most)
    return OnnxEngine(settings, read_model(path, None))


def make_variants(path: Path, folder: Path) -> dict[str, Path | None]:
    """Return the model as it is, in half precision, and that with pixels for input.

    None where the extra `export` is missing.
    """
    variants: dict[str, Path | None] = {"fp32": path, "fp16": None, "fp16, uint8": None}
    try:
        from export.pixels import take_pixels
        from export.precision import halve
    except ImportError:
        return variants
    half, pixels = (folder / f"{path.stem}-{name}.onnx" for name in ("fp16", "uint8"))
    half.write_bytes(path.read_bytes())
    halve(half)
    pixels.write_bytes(half.read_bytes())
    info = inspect_model(read_model(path, None))
    take_pixels(pixels, mean=float(info.mean), std=float(info.std))
    return variants | {"fp16": half, "fp16, uint8": pixels}


def time_runs(engine: OnnxEngine, batch: np.ndarray, seconds: float) -> list[float]:
    """Return the seconds of each run, warm; at least three."""
    engine.run(batch)
    times: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        engine.run(batch)
        times.append(time.perf_counter() - start_s)
    return times


def measure_engine(
    engine: OnnxEngine, ref_size: int, batches: tuple[int, ...], seconds: float, budget: Budget
) -> list[str]:
    """Return the cells of a row: milliseconds of one picture, then pictures a second."""
    size = choose_size(*FRAME, ref_size=ref_size, stride=engine.info.stride, max_megapixels=9)
    one = make_batch(engine.info, size)
    cells = [f"{ref_size}", NOT_MEASURED, NOT_MEASURED]
    for number in batches:
        if not budget.allows(2 * seconds):
            cells.append(NOT_MEASURED)
            continue
        try:
            times = time_runs(engine, np.repeat(one, number, axis=0), seconds)
        except InferenceError as error:
            cells.append(error.kind)
            with suppress(DeviceError):
                engine.recover()
            continue
        if number == 1:
            ordered = sorted(times)
            p95 = ordered[int(0.95 * (len(ordered) - 1))]
            cells[1:] = [f"{statistics.median(times) * 1000:.1f}", f"{p95 * 1000:.1f}"]
        cells.append(f"{number / statistics.median(times):.1f}")
    return cells


async def measure_clips(
    path: Path, device: str, size: tuple[int, int], frames: int, budget: Budget
) -> list[list[str]]:
    """Return a row for each output: frames a second from file to file."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder / "clip.mp4", frames, size)
        settings = load_settings(model_path=path, device=device, data_dir=folder, decoders=1)
        runtime = await Runtime.start(settings, Metrics())
        taken_s = 0.0
        for output in OUTPUTS:
            fps = NOT_MEASURED
            if budget.allows(taken_s):
                start_s = time.monotonic()
                ref_size = runtime.models.default.info.ref_size
                fps = f"{await time_clip(runtime, clip, output, ref_size):.1f}"
                taken_s = max(taken_s, time.monotonic() - start_s)
            rows.append([f"{size[0]} x {size[1]}", output, str(frames), fps])
        await runtime.stop_network()
        await runtime.aclose()
    return rows


def measure(args: argparse.Namespace) -> str:
    """Return the tables."""
    budget, rows, provider = Budget(args.budget), [], ""
    batches = tuple(number for number in BATCHES if number <= args.batch)
    with tempfile.TemporaryDirectory() as folder:
        for precision, path in make_variants(args.model, Path(folder)).items():
            if path is None:
                rows.append([precision, *[NOT_MEASURED] * (3 + len(batches))])
                continue
            engine = open_engine(path, args.device, max(batches))
            provider = engine.provider
            for ref_size in args.ref_size or REF_SIZES:
                cells = measure_engine(engine, ref_size, batches, args.seconds, budget)
                rows.append([precision, *cells])
    clips = asyncio.run(measure_clips(args.model, args.device, args.clip, args.frames, budget))
    columns = ["precision", "ref_size", "ms, p50", "ms, p95", *(f"b{n}, /s" for n in batches)]
    command = f"python -m benchmarks.gpu --device {args.device}"
    return "\n".join(
        [
            f"### {describe_run(command)}, {provider}, {args.model.name}",
            "",
            format_table(columns, rows),
            "",
            format_table(["clip", "output", "frames", "frames/s"], clips),
        ]
    )


def write(section: str, results: Path) -> None:
    """Put the tables in the place of the older ones."""
    text = results.read_text()
    old = re.compile(rf"{HEADING}\n.*?(?=\n## |\Z)", re.DOTALL)
    new = f"{HEADING}\n\n{section}\n"
    replaced, count = old.subn(lambda _: new, text)
    results.write_text(replaced if count else f"{text.rstrip()}\n\n{new}")


def read_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, default=DEFAULT_MODEL, help="an ONNX file")
    parser.add_argument("--device", default="cuda", help="cuda, openvino or cpu")
    parser.add_argument("--seconds", type=float, default=5, help="of each figure")
    parser.add_argument("--budget", type=float, default=400, help="seconds of all of them")
    parser.add_argument("--batch", type=int, default=max(BATCHES), help="the largest one")
    parser.add_argument("--ref-size", type=int, nargs="*", help="of the input")
    parser.add_argument("--clip", type=read_size, default=(1920, 1080), help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=300, help="of the clip")
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        section = measure(args)
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 3
    print(section)
    if args.write:
        write(section, args.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
