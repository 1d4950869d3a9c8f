"""Make docs/adaptation.png: mattes of a clip by several networks, a row for each.

python docs/make_adaptation.py CLIP training/weights/modnet.npz runs/adapted.pt

The clip is one that no training saw; `matte adapt` made the second network from the first.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from training.evaluation.measure import predict_alpha, read_frames
from training.evaluation.predictor import open_predictor
from training.evaluation.sheet import draw_sheet

OUT = Path(__file__).parent / "adaptation.png"


def main(argv: list[str] | None = None) -> int:
    """Matte evenly spread frames and draw them."""
    parser = argparse.ArgumentParser(description="Draw mattes of a clip by several networks.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("models", type=Path, nargs="+", help="checkpoints or .onnx")
    parser.add_argument("--ref-size", type=int, default=320)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    frames = list(read_frames(options.clip))
    chosen = np.linspace(0, len(frames) - 1, options.frames).round().astype(int)
    rows = []
    for path in options.models:
        predictor = open_predictor(path)
        mattes = [predict_alpha(predictor, frames[i], options.ref_size) for i in chosen]
        rows.append((path.stem, mattes))
    draw_sheet(rows).save(options.out, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
