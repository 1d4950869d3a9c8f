"""One matte out of two passes of the network over a photo.

A small input shows the network more of the photo at once: it knows better what is the person. A
large one shows it the outline. Pyramids of images are joined like this (Burt and Adelson 1983),
here of logits, as means of probabilities would leave a haze where the two disagree.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

CELL = 16  # side in pixels of the larger matte; of what is coarser the smaller one has
SHARE = 0.65
GAIN = 1.15  # of logits: averaged mattes are hazier than true ones
LEAST = 1e-4  # alpha whose logits are the furthest from 0


def join_passes(semantic: NDArray[np.float32], detail: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a matte (H, W) of the parts that `semantic` (h, w) sees and the outline of `detail`.

    Both are mattes in [0, 1] of the whole of one picture, `detail` (H, W) the larger one.
    """
    height, width = detail.shape
    fine = _to_logits(detail)
    difference = cv2.resize(_to_logits(semantic), (width, height)) - fine
    cells = max(1, width // CELL), max(1, height // CELL)
    coarse = cv2.resize(difference, cells, interpolation=cv2.INTER_AREA)
    joined = GAIN * (fine + SHARE * cv2.resize(coarse, (width, height)))
    alpha: NDArray[np.float32] = np.float32(1) / (1 + np.exp(-joined))
    return alpha


def _to_logits(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    inside = np.clip(alpha, LEAST, 1 - LEAST)
    logits: NDArray[np.float32] = np.log(inside / (1 - inside))
    return logits
