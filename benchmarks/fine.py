"""`python -m benchmarks.fine FOLDER`: what `refine=fine` brings where edges are softest.

FOLDER is in any layout that training reads; of its `val` split those photos are taken whose true
alpha has the largest part between 0.05 and 0.95: loose hair or fur. The error is that of the
whole matte and of its true soft part; core-s are those of the refinement, at the own size and
enlarged to `--megapixels`. Prints a Markdown table for RESULTS.md.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.serving import describe_run
from service.inference.engine import OnnxEngine
from service.inference.photos import run_photo
from service.matting.fine import refine_strands
from service.matting.refine import refine_alpha
from service.settings import DEFAULT_MODEL, Settings
from service.threads import never
from training.data.pairs import Pair, find_pairs
from training.data.photos import read_image
from training.evaluation.metrics import grad, mad, mse
from training.evaluation.results import format_table

Floats = NDArray[np.float32]
SOFT = (0.05, 0.95)


def read_alpha(pair: Pair) -> Floats:
    """Return the true alpha, (H, W) float32 in [0, 1]."""
    return np.float32(read_image(pair.alpha, "L")) / 255


def find_soft(alpha: Floats) -> NDArray[np.bool_]:
    """Return where the alpha is neither background nor foreground, (H, W)."""
    return (alpha > SOFT[0]) & (alpha < SOFT[1])


def refine_auto(image: NDArray[np.uint8], matte: Floats) -> Floats:
    return refine_alpha(image, matte)


def refine_fine(image: NDArray[np.uint8], matte: Floats) -> Floats:
    return refine_strands(image, refine_alpha(image, matte), never)


REFINEMENTS: dict[str, Callable[[NDArray[np.uint8], Floats], Floats]] = {
    "auto": refine_auto,
    "fine": refine_fine,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fine", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    settings = Settings(model_path=options.model, device="cpu")
    engine = OnnxEngine(settings)
    pairs = [pair for pair in find_pairs(options.folder) if pair.split == "val"]
    pairs.sort(key=lambda pair: find_soft(read_alpha(pair)).mean(), reverse=True)
    pairs = pairs[: options.limit]
    scores: dict[str, list[tuple[float, ...]]] = {name: [] for name in REFINEMENTS}
    for pair in track(pairs, description="photos"):
        image, alpha = read_image(pair.photo), read_alpha(pair)
        matte = run_photo(engine, image, settings.network_max_megapixels)
        zoom = (options.megapixels * 1e6 / alpha.size) ** 0.5
        large = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LANCZOS4)
        for name, refine in REFINEMENTS.items():
            start = time.process_time()
            found = refine(image, matte)
            middle = time.process_time()
            refine(large, matte)
            end = time.process_time()
            soft = np.abs(found - alpha)[find_soft(alpha)].mean()
            figures = mad(found, alpha), float(soft), mse(found, alpha), grad(found, alpha)
            scores[name].append((*map(float, figures), middle - start, end - middle))
    rows = [
        [f"`{name}`", *(f"{mean:.4f}" for mean in means[:4]), *(f"{s:.2f}" for s in means[4:])]
        for name, means in ((n, np.mean(v, axis=0).tolist()) for n, v in scores.items())
    ]
    print(f"{describe_run('python -m benchmarks.fine')}, {len(pairs)} photos, softest edges\n")
    titles = [
        "MAD",
        "MAD of the soft part",
        "MSE",
        "Grad",
        "core-s",
        f"core-s at {options.megapixels:g} MP",
    ]
    print(format_table(["refine", *titles], rows))


if __name__ == "__main__":
    main()
