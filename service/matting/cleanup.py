"""Corrections of a matte that people ask for."""

import cv2
import numpy as np
from numpy.typing import NDArray

Alpha = NDArray[np.float32]


def clean_alpha(
    alpha: Alpha,
    *,
    threshold: float | None = None,
    erode: int = 0,
    dilate: int = 0,
    feather: float = 0.0,
    keep_largest: bool = False,
) -> Alpha:
    """Return the corrected matte, (H, W) float32 in [0, 1]; without options the one given.

    In this order: `keep_largest` drops all but the largest piece, `threshold` makes alpha 1 from
    that value on and 0 below, `erode` and `dilate` shrink and grow by discs of so many pixels,
    `feather` blurs with a Gaussian of that sigma in pixels.
    """
    if keep_largest:
        alpha = keep_largest_piece(alpha)
    if threshold is not None:
        alpha = (alpha >= threshold).astype(np.float32)
    if erode:
        alpha = cv2.erode(alpha, make_disc(erode))
    if dilate:
        alpha = cv2.dilate(alpha, make_disc(dilate))
    if feather:
        alpha = cv2.GaussianBlur(alpha, (0, 0), feather)
    return alpha


def make_disc(radius: int) -> NDArray[np.uint8]:
    """Return a disc as a kernel of (2 * radius + 1) squared."""
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def keep_largest_piece(alpha: Alpha) -> Alpha:
    """Return the matte with only the largest connected piece of alpha > 0.5.

    Soft alpha goes to the piece that is nearest, so that hair stays with its head and the haze
    around a dropped piece goes with it.
    """
    solid = (alpha > 0.5).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    if count <= 2:  # the background and one piece
        return alpha
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    to_largest = measure_distance(labels == largest)
    to_others = measure_distance((labels != largest) & (labels != 0))
    return np.where(to_largest <= to_others, alpha, np.float32(0))


def measure_distance(region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return each pixel's distance to a region, pixels."""
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, 5)
