"""Make docs/confidence.png: what `X-Matte-Confidence` says against how right the matte is.

python docs/make_confidence.py service/weights/modnet-fast.onnx --data FOLDER FOLDER

A point is a photo: its confidence as the service gives it, and the IoU of its matte with the true
one, both at the network's size; photos pass once or twice, as they are served. Needs matplotlib and
scipy (`make setup`).
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from service.matting.signals import measure_confidence
from training.commands.evaluate import select
from training.data.pairs import Pair, find_pairs
from training.evaluation import metrics
from training.evaluation.measure import read_photo, run_photo
from training.evaluation.predictor import Placement, Predictor, open_predictor

OUT = Path(__file__).parent / "confidence.png"
BINS = 12


def judge(predictor: Predictor, pair: Pair) -> tuple[float, float]:
    """Return the confidence of a photo's matte and its IoU with the true one."""
    image, label = read_photo(pair)
    alpha = run_photo(predictor, image, None)
    truth = cv2.resize(label, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
    return measure_confidence(alpha), metrics.iou(alpha, np.float32(truth) / 255)


def draw(name: str, points: np.ndarray, correlation: float, out: Path) -> None:
    """Draw the (N, 2) points, and the median of each bin of as many photos."""
    figure = Figure(figsize=(6.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*points.T, s=9, alpha=0.35, color="#00798c")
    bins = np.array_split(points[np.argsort(points[:, 0])], BINS)
    axes.plot(*np.array([np.median(group, axis=0) for group in bins]).T, color="#d1495b")
    title = f"{name}: {len(points)} photos, Spearman {correlation:.2f}"
    axes.set(title=title, xlabel="confidence", ylabel="IoU with the true matte")
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=90)


def main(argv: list[str] | None = None) -> int:
    """Measure, draw, print the correlation of each folder and of all."""
    parser = argparse.ArgumentParser(description="Draw confidence against IoU.")
    add = parser.add_argument
    add("model", type=Path, help=".onnx")
    add("--data", type=Path, nargs="+", required=True, metavar="FOLDER", help="photos with alpha")
    add("--split", choices=["train", "val", "all"], default="val", help="default: %(default)s")
    add("--limit", type=int, help="take this many photos of each folder")
    add("--out", type=Path, default=OUT, help="default: docs/confidence.png")
    arguments = parser.parse_args(argv)
    predictor = open_predictor(arguments.model, Placement(threads=1))
    groups = []
    for folder in arguments.data:
        pairs = select(find_pairs(folder), arguments.split, arguments.limit)
        groups.append(np.array([judge(predictor, pair) for pair in pairs]))
        print(f"{folder}: {len(pairs)} photos, Spearman {spearmanr(*groups[-1].T)[0]:.3f}")
    points = np.concatenate(groups)
    correlation = float(spearmanr(*points.T)[0])
    print(f"all: {len(points)} photos, Spearman {correlation:.3f}")
    draw(arguments.model.stem, points, correlation, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
