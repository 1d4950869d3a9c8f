"""Confidence of a matte, and whether it shows a person."""

import cv2
import numpy as np
from numpy.typing import NDArray

SURE = 0.9  # alpha of a pixel that the network calls a person without hesitating
# Pixels of the largest piece of such pixels when somebody is there, at the network's size. Of 134
# pictures without people none has half as many (2026-11, the weights of this version).
PERSON_PIXELS = 1000
# The same as a share of the picture, for networks that see it small.
PERSON_SHARE = 0.02
SQUARE = 32  # pixels a side: no fewer than PERSON_PIXELS
# Gaps up to this many pixels wide, at the network's size, belong to the silhouette.
CLOSED_GAP = 33
_EPSILON = 1e-6


def measure_confidence(alpha: NDArray[np.float32]) -> float:
    """Return how decided a matte (h, w) is, in [0, 1].

    1 minus the mean of 4 alpha (1 - alpha) over the silhouette: 1 where every pixel of it is
    decided, 0 where all are at one half. The silhouette is what is above one half, with its gaps
    and holes, so that a half-seen jacket counts. An empty matte is decided: 1.
    """
    silhouette = find_silhouette(alpha)
    doubt = 4 * alpha * (1 - alpha)
    if silhouette.any():
        return min(1.0, max(0.0, 1.0 - float(doubt[silhouette].mean())))
    total = float(alpha.sum())  # nothing is solid: each pixel counts as much as it is there
    if total < _EPSILON:
        return 1.0
    return min(1.0, max(0.0, 1.0 - float((doubt * alpha).sum()) / total))


def find_silhouette(alpha: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return what is solid in a matte (h, w), narrow gaps and enclosed holes with it."""
    solid = (alpha > 0.5).view(np.uint8)
    side = CLOSED_GAP // 2
    framed = cv2.copyMakeBorder(solid, side, side, side, side, cv2.BORDER_REPLICATE)
    kernel = np.ones((CLOSED_GAP, CLOSED_GAP), np.uint8)
    closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, kernel)[side:-side, side:-side]
    # What the frame of background does not reach from outside is enclosed.
    outside = cv2.copyMakeBorder(1 - closed, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(outside, None, (0, 0), 2)
    return np.asarray((outside != 2)[1:-1, 1:-1])


def shows_person(alpha: NDArray[np.float32]) -> bool:
    """Say whether the network's matte (h, w) shows anybody: one solid piece of some size."""
    sure = (alpha > SURE).view(np.uint8)
    least = min(PERSON_PIXELS, PERSON_SHARE * alpha.size)
    if cv2.countNonZero(sure) < least:
        return False
    # Most people fill a square of so many pixels, which is found in a tenth of the time.
    height, width = (size // SQUARE * SQUARE for size in sure.shape)
    squares = sure[:height, :width].reshape(height // SQUARE, SQUARE, width // SQUARE, SQUARE)
    if np.minimum.reduce(np.minimum.reduce(squares, axis=1), axis=2).any():
        return True
    _, _, stats, _ = cv2.connectedComponentsWithStats(sure)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0)) >= least
