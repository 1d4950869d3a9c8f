"""`python -m benchmarks.quality FOLDER`: error of the mattes as clients get them.

`matte evaluate` measures the network and enlarges its matte linearly (`off`); here the matte is
also refined as `POST /v1/image` does it by default (`auto`). Both are settled at their ends. FOLDER
is in any layout that training reads; its `val` split is measured. Prints a Markdown table for
RESULTS.md.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.serving import describe_run
from service.inference.engine import OnnxEngine
from service.inference.photos import run_photo
from service.matting.cleanup import settle_ends
from service.matting.refine import refine_alpha
from service.matting.resize import resize_alpha
from service.settings import DEFAULT_MODEL, Settings
from training.data.pairs import find_pairs
from training.data.photos import read_image
from training.evaluation.metrics import grad, iou, mad, mse
from training.evaluation.results import TITLES, format_table, format_values

METRICS = {"mse": mse, "mad": mad, "iou": iou, "grad": grad}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--ref-size", type=int, help="default: the model's own")
    options = parser.parse_args()
    settings = Settings(model_path=options.model, device="cpu")
    engine = OnnxEngine(settings)
    pairs = [pair for pair in find_pairs(options.folder) if pair.split == "val"]
    scores: dict[str, list[list[float]]] = {"off": [], "auto": []}
    for pair in track(pairs, description="photos"):
        image, alpha = read_image(pair.photo), np.float32(read_image(pair.alpha, "L")) / 255
        matte = run_photo(engine, image, settings.network_max_megapixels, options.ref_size)
        for name, found in (
            ("off", resize_alpha(matte, *alpha.shape)),
            ("auto", refine_alpha(image, matte)),
        ):
            settled = settle_ends(found)
            scores[name].append([float(metric(settled, alpha)) for metric in METRICS.values()])
    own = engine.info.photo_ref_sizes or (engine.info.ref_size,)
    size = options.ref_size or " + ".join(map(str, own))
    rows = []
    for name, measured in scores.items():
        means = dict(zip(METRICS, np.mean(measured, axis=0).tolist(), strict=True))
        rows.append([f"`{name}`", *format_values(means, list(METRICS))])
    print(
        f"{describe_run('python -m benchmarks.quality')}, {len(pairs)} photos, ref_size {size}:\n"
    )
    print(format_table(["refine", *(TITLES[name] for name in METRICS)], rows))


if __name__ == "__main__":
    main()
