"""`make bench-engines`: core-ms, memory and accuracy of each model, provider and precision.

All take turns in one run on the same input, so that the machine's noise meets them alike; core-ms
are the least of the process's CPU time over the rounds, with one thread; a second table has other
threads and batches, with the least wall time beside it. Memory is that of a
process of its own after twelve sizes of input. Prints Markdown tables for RESULTS.md.
"""

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.progress import track

from benchmarks.serving import describe_run
from service.inference.engine import OnnxEngine
from service.inference.models import ModelInfo, read_model
from service.inference.preprocessing import fit_to_network
from service.inference.providers import DeviceError
from service.matting.resize import resize_alpha
from service.settings import DEFAULT_MODEL, Settings
from training.data.pairs import Pair, find_pairs
from training.data.photos import read_image
from training.evaluation.metrics import iou, mad
from training.evaluation.results import format_table

KINDS = (("cpu", "auto"), ("openvino", "fp32"), ("openvino", "bf16"), ("cuda", "auto"))
SIZES = ((192, 352), (320, 576))
LOADS = ((1, 1), (2, 1), (1, 4), (2, 4))  # threads, images a run
MEMORY_SIDES = range(256, 640, 32)
Engines = dict[tuple[str, str], OnnxEngine]  # by the file's name and "provider, precision"


def open_engines(
    paths: list[Path], kinds: tuple[tuple[str, str], ...] = KINDS, threads: int = 1
) -> Engines:
    """Return every model on every provider that this machine has."""
    engines: Engines = {}
    for path, (device, precision) in itertools.product(paths, kinds):
        settings = Settings(model_path=path, device=device, precision=precision, threads=threads)
        try:
            engine = OnnxEngine(settings, read_model(path, None))
        except DeviceError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        provider = engine.provider.removesuffix("ExecutionProvider")
        engines[path.name, f"{provider}, {engine.precision}"] = engine
    return engines


def make_batch(info: ModelInfo, size: tuple[int, int]) -> np.ndarray:
    """Return noise as the network takes it, one picture; networks of one size get that."""
    blank, rng = info.make_blank(1, info.fixed_size or size), np.random.default_rng(0)
    if info.takes_pixels:
        return rng.integers(0, 256, blank.shape, np.uint8)
    return rng.uniform(-1, 1, blank.shape).astype(np.float32)


def time_engines(engines: Engines, rounds: int) -> list[list[str]]:
    """Return the rows of the table of core-ms, one an engine."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for size in SIZES:
        batches = {key: make_batch(engine.info, size) for key, engine in engines.items()}
        taken: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
        for number in track(
            range(rounds + 1), f"{size[0]} x {size[1]}", console=Console(stderr=True)
        ):
            for key, engine in engines.items():
                start_s = time.process_time()
                engine.run(batches[key])
                if number:  # the first run of a size prepares it
                    taken[key].append(time.process_time() - start_s)
        for key, times in taken.items():
            seconds.setdefault(key, []).append(min(times))
    return [[*key, *(f"{s * 1000:.0f}" for s in times)] for key, times in seconds.items()]


def time_loads(paths: list[Path], rounds: int) -> list[list[str]]:
    """Return the rows of the table of threads and batches: ms and core-ms an image, each by turns.

    Networks that take one image at a time have no batches.
    """
    by_threads = {threads: open_engines(paths, threads=threads) for threads, _ in LOADS}
    best: dict[tuple[str, str], dict[tuple[int, int], tuple[float, float]]] = {}
    for _ in track(range(rounds + 1), "threads and batches", console=Console(stderr=True)):
        for load in LOADS:
            threads, images = load
            for key, engine in by_threads[threads].items():
                least = best.setdefault(key, {})
                if images > (engine.info.max_batch_size or 64) or engine.info.is_recurrent:
                    continue
                batch = np.repeat(make_batch(engine.info, SIZES[0]), images, axis=0)
                start_s, start_core_s = time.perf_counter(), time.process_time()
                engine.run(batch)
                taken = (time.perf_counter() - start_s, time.process_time() - start_core_s)
                # The first run of a shape prepares it and is never the least.
                before = least.get(load, taken)
                least[load] = min(before[0], taken[0]), min(before[1], taken[1])
    return [[*key, *map(format_load, LOADS, [least] * len(LOADS))] for key, least in best.items()]


def format_load(load: tuple[int, int], least: dict[tuple[int, int], tuple[float, float]]) -> str:
    """Return milliseconds and core-milliseconds an image."""
    if load not in least:
        return "-"
    return " / ".join(f"{seconds * 1000 / load[1]:.0f}" for seconds in least[load])


def judge_engines(engines: Engines, pairs: list[Pair]) -> list[list[str]]:
    """Return the rows of the table of accuracy: against the labels, and against the first engine
    of the same model."""
    scores: dict[tuple[str, str], list[tuple[float, float, float]]] = {key: [] for key in engines}
    for pair in track(pairs, "photos", console=Console(stderr=True)):
        image, label = read_image(pair.photo), np.float32(read_image(pair.alpha, "L")) / 255
        first: dict[str, np.ndarray] = {}
        for key, engine in engines.items():
            tensor = fit_to_network(image, engine.info, None, Settings().network_max_megapixels)
            matte = engine.run(tensor[np.newaxis])[0]
            found = resize_alpha(matte, *label.shape)
            away = float(np.abs(matte - first.setdefault(key[0], matte)).mean())
            scores[key].append((mad(found, label), iou(found, label), away))
    rows = []
    for key, values in scores.items():
        mean_mad, mean_iou, away = np.mean(values, axis=0)
        rows.append([*key, f"{mean_mad:.5f}", f"{mean_iou:.4f}", f"{away:.6f}"])
    return rows


def measure_memory(paths: list[Path], device: str, precision: str) -> str:
    """Return the MiB that models take in a process of its own, after twelve sizes of input."""
    command = [sys.executable, "-m", "benchmarks.engines", "--memory", device, precision]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def print_memory(paths: list[Path], device: str, precision: str) -> None:
    engines = open_engines(paths, ((device, precision),))
    for side in MEMORY_SIDES:
        for engine in engines.values():
            engine.run(make_batch(engine.info, (256, side)))
    print(round(psutil.Process().memory_full_info().uss / 2**20))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-engines", description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", default=[DEFAULT_MODEL])
    parser.add_argument("--photos", type=Path, help="folder of labelled photos; its split val")
    parser.add_argument("--limit", type=int, help="photos, evenly out of all")
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--loads", action="store_true", help="threads and batches too")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print_memory(options.models, *options.memory)
        return
    engines = open_engines(options.models)
    titles = ["model", "provider"]
    print(f"### {describe_run('make bench-engines')}\n")
    sizes = [f"core-ms {height} x {width}" for height, width in SIZES]
    kinds = {engine.provider: None for engine in engines.values()}
    print(format_table([*titles, *sizes], time_engines(engines, options.rounds)) + "\n")
    if options.loads:
        loads = [f"{threads} thread(s), batch {images}" for threads, images in LOADS]
        print("Least ms / core-ms an image, " + " x ".join(map(str, SIZES[0])) + ":\n")
        print(format_table([*titles, *loads], time_loads(options.models, options.rounds)) + "\n")
    sets = [[path] for path in options.models] + [options.models] * (len(options.models) > 1)
    sets = [] if options.skip_memory else sets
    rows = [
        [
            " + ".join(path.name for path in paths),
            f"{device}, {precision}",
            measure_memory(paths, device, precision),
        ]
        for paths in sets
        for device, precision in KINDS
        if any(device in provider.lower() for provider in kinds)
    ]
    if rows:
        print(format_table(["models", "provider", "MiB after 12 sizes"], rows) + "\n")
    if options.photos:
        pairs = [pair for pair in find_pairs(options.photos) if pair.split == "val"]
        if options.limit:
            pairs = pairs[:: max(1, len(pairs) // options.limit)]
        titles += ["MAD", "IoU", "mean difference to the first"]
        print(f"{len(pairs)} photos:\n")
        print(format_table(titles, judge_engines(engines, pairs)))


if __name__ == "__main__":
    main()
