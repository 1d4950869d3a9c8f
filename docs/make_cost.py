"""Make docs/cost.png: the error of each model against what a frame costs, over sizes of the input.

python docs/make_cost.py service/weights/modnet.onnx modnet-fast.onnx --data FOLDER FOLDER

The error is that of `matte evaluate`; folders weigh by their photos. The cost is the processor
time of the network alone on a 16:9 frame, by onnxruntime with one thread. Stars are the two passes
that a photo gets where the model says so. The figures go into docs/cost.json, from which `--redraw`
draws again. Needs matplotlib (`make setup`).
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from training.commands.evaluate import select
from training.data.pairs import Pair, find_pairs
from training.evaluation.measure import measure_photo
from training.evaluation.predictor import Placement, Predictor, choose_size, open_predictor
from training.evaluation.results import average_results, format_table

OUT = Path(__file__).parent / "cost.png"
FRAME = (1080, 1920)
SIZES = (192, 256, 320, 384)
RUNS = 7
COLOURS = ("#d1495b", "#00798c", "#edae49", "#33373d")
PANELS = {"mad": "mean absolute difference (lower is better)", "iou": "IoU (higher is better)"}


@dataclass(frozen=True)
class Point:
    """A model in a pass or two: their sizes, processor time of a frame, means over photos."""

    model: str
    ref_sizes: list[int]
    core_ms: float
    mad: float
    mse: float
    iou: float
    photos: int


def measure(predictor: Predictor, ref_size: int | None, pairs: list[Pair]) -> Point:
    """Return the point of a model at a size; None: in the passes that photos get."""
    means = average_results([measure_photo(predictor, pair, ref_size) for pair in pairs])
    errors = {name: means[name] for name in ("mad", "mse", "iou")}
    sizes = list(predictor.photo_ref_sizes) if ref_size is None else [ref_size]
    core_ms = sum(time_frame(predictor, size) for size in sizes)
    return Point(predictor.path.stem, sizes, core_ms, **errors, photos=len(pairs))


def measure_model(path: Path, sizes: list[int], pairs: list[Pair]) -> list[Point]:
    """Return the points of a model, and that of its photos where they get two passes."""
    predictor = open_predictor(path, Placement(threads=1))
    asked = [*sizes, *([None] if predictor.photo_ref_sizes else [])]
    return [measure(predictor, size, pairs) for size in asked]


def time_frame(predictor: Predictor, ref_size: int) -> float:
    """Return the processor milliseconds of one frame, the least of some runs."""
    height, width = choose_size(*FRAME, ref_size)
    shape = (1, predictor.in_channels, height, width)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    costs = []
    for _ in range(2 + RUNS):
        start = time.process_time()
        predictor.run(batch)
        costs.append((time.process_time() - start) * 1e3)
    return min(costs[2:])


def name(point: Point) -> str:
    return " + ".join(map(str, point.ref_sizes))


def draw(points: list[Point], out: Path) -> None:
    """Draw a curve of each model in a panel of each measure."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    models = list(dict.fromkeys(point.model for point in points))
    for axes, (measure_name, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for model, colour in zip(models, COLOURS, strict=False):
            own = sorted((p for p in points if p.model == model), key=lambda p: p.core_ms)
            for style, passes, label in (("o-", 1, model), ("*", 2, None)):
                chosen = [p for p in own if len(p.ref_sizes) == passes]
                costs = [p.core_ms for p in chosen]
                values = [getattr(p, measure_name) for p in chosen]
                axes.plot(costs, values, style, color=colour, label=label, markersize=8)
                for point, at in zip(chosen, zip(costs, values, strict=True), strict=True):
                    axes.annotate(name(point), at, (5, 5), textcoords="offset points")
        axes.set(xscale="log", title=title, xlabel="processor ms of a 16:9 frame, one thread")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=90)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the figures, draw."""
    parser = argparse.ArgumentParser(description="Draw error against cost.")
    add = parser.add_argument
    add("models", type=Path, nargs="*", metavar="MODEL", help=".onnx")
    add("--data", type=Path, nargs="+", default=[], metavar="FOLDER", help="photos with alpha")
    add("--split", choices=["train", "val", "all"], default="val", help="default: %(default)s")
    add("--limit", type=int, help="take this many photos of each folder")
    add("--sizes", default=",".join(map(str, SIZES)), help="shorter sides (%(default)s)")
    add("--out", type=Path, default=OUT, help="picture; the figures lie beside it as .json")
    add("--redraw", action="store_true", help="draw the figures that are there")
    arguments = parser.parse_args(argv)
    figures = arguments.out.with_suffix(".json")
    if arguments.redraw:
        points = [Point(**record) for record in json.loads(figures.read_text())]
    else:
        found = [select(find_pairs(f), arguments.split, arguments.limit) for f in arguments.data]
        pairs = [pair for group in found for pair in group]
        sizes = [int(size) for size in arguments.sizes.split(",")]
        points = [p for model in arguments.models for p in measure_model(model, sizes, pairs)]
        figures.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n")
    header = ["model", "ref_size", "core-ms", "MAD", "MSE", "IoU"]
    rows = [
        [
            p.model,
            name(p),
            f"{p.core_ms:.1f}",
            f"{p.mad:.4f}",
            f"{p.mse:.4f}",
            f"{p.iou:.4f}",
        ]
        for p in points
    ]
    print(format_table(header, rows))
    draw(points, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
