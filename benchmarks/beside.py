"""`python -m benchmarks.beside`: the network run after run, and two runs side by side.

Pictures a second of both, by turns in one run: medians. Prints a Markdown table for
RESULTS.md.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.engines import SIZES, make_batch, open_engines
from benchmarks.serving import describe_run
from service.inference.engine import Engine
from service.inference.lanes import LANES
from service.inference.providers import count_threads
from service.settings import DEFAULT_MODEL
from training.evaluation.results import format_table

RUNS = 12  # of one measurement


def measure(engine: Engine, size: tuple[int, int], lanes: int) -> float:
    """Return the pictures a second of so many threads that run an engine."""
    batch = make_batch(engine.info, size)
    with ThreadPoolExecutor(lanes) as threads:
        start_s = time.perf_counter()
        list(threads.map(engine.run, [batch] * RUNS))
        return RUNS / (time.perf_counter() - start_s)


def compare(paths: list[Path], rounds: int) -> list[list[str]]:
    """Return the rows of the table, a model on a provider at a size each."""
    rows = []
    for (name, provider), engine in open_engines(paths, threads=count_threads()).items():
        beside = engine.open_beside(LANES)
        if beside is None:
            continue
        for size in SIZES:
            rates: dict[int, list[float]] = {1: [], LANES: []}
            for number in track(
                range(rounds + 1), f"{name}, {provider}", console=Console(stderr=True)
            ):
                for lanes, one in ((1, engine), (LANES, beside)):
                    rate = measure(one, size, lanes)
                    if number:  # the first runs of a size prepare it
                        rates[lanes].append(rate)
            ratio = np.divide(rates[LANES], rates[1])
            means = (f"{statistics.median(found):.1f}" for found in rates.values())
            ratios = f"{statistics.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
            rows.append([name, provider, f"{size[0]} x {size[1]}", *means, ratios])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", default=[DEFAULT_MODEL])
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    print(f"### {describe_run('python -m benchmarks.beside')}\n")
    titles = ["model", "provider", "input", "after each other, 1/s", "side by side", "ratio"]
    print(format_table(titles, compare(options.models, options.rounds)))


if __name__ == "__main__":
    main()
