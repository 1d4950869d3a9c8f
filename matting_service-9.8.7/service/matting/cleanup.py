"""Clean-up of an alpha matte: threshold, morphology, largest component, feather."""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.blur import choose_blur_size

Alpha = NDArray[np.float32]
FAINT, SETTLED = 2 / 255, 8 / 255
WIDEST_DISC = 5  # pixels of radius
# Soft alpha above this joins pieces: a lock of hair hangs on its head by its haze.
CONNECT_ABOVE = 0.1
FINE_SIGMA = 8.0  # pixels; what a wider Gaussian leaves needs fewer pixels


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
    for radius in split_radius(erode):
        alpha = cv2.erode(alpha, make_disc(radius))
    for radius in split_radius(dilate):
        alpha = cv2.dilate(alpha, make_disc(radius))
    return blur_alpha(alpha, feather) if feather else alpha


def settle_ends(alpha: Alpha) -> Alpha:
    """Return alpha that is 0 under FAINT and 1 over 1 - FAINT, without a step.

    A network is never quite at its ends, and a level or two of a background show in a composite.
    Ramps lead from there to alpha as it is at SETTLED and 1 - SETTLED.
    """
    slope = np.float32(SETTLED / (SETTLED - FAINT))
    low = (alpha - np.float32(FAINT)) * slope
    high = 1 - (np.float32(1 - FAINT) - alpha) * slope
    return np.clip(np.maximum(np.minimum(alpha, low), high), 0, 1)


def split_radius(radius: int) -> list[int]:
    """Return radii of discs that do one after the other what the wide one does.

    A disc of 100 pixels looks at 31,000 for each, twenty of 5 at 81 each; the outline they make is
    within a tenth of a circle.
    """
    steps = -(-radius // WIDEST_DISC)
    return [radius * (i + 1) // steps - radius * i // steps for i in range(steps)]


def blur_alpha(alpha: Alpha, sigma: float) -> Alpha:
    """Return the matte under a Gaussian of `sigma` pixels, a wide one on a smaller picture."""
    height, width = alpha.shape
    size, scale = choose_blur_size(height, width, sigma, FINE_SIGMA)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma * scale)
    # Weights sum to one only nearly.
    return np.minimum(cv2.resize(soft, (width, height)), 1)


def make_disc(radius: int) -> NDArray[np.uint8]:
    """Return a disc as a kernel of (2 * radius + 1) squared."""
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def keep_largest_piece(alpha: Alpha) -> Alpha:
    """Return the matte with only the largest connected piece of alpha > 0.5 and what hangs on it.

    All that alpha > CONNECT_ABOVE joins to the largest piece stays, the solid islands in loose
    hair too. Fainter alpha goes with the region that is nearest, so that no haze ends at
    CONNECT_ABOVE and none is left around what was dropped. Pieces are 8-connected.
    """
    count, solid, stats, _ = cv2.connectedComponentsWithStats(
        (alpha > 0.5).view(np.uint8), connectivity=8
    )
    if count <= 2:  # the background and one piece
        return alpha
    largest = solid == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    count, regions = cv2.connectedComponents((alpha > CONNECT_ABOVE).view(np.uint8), connectivity=8)
    if count <= 2:
        return alpha
    own = regions == regions[np.unravel_index(np.argmax(largest), alpha.shape)]
    others = (regions != 0) & ~own
    return np.where(measure_distance(own) <= measure_distance(others), alpha, np.float32(0))


def measure_distance(region: NDArray[np.bool_]) -> Alpha:
    """Return each pixel's distance to a region, pixels."""
    return cv2.distanceTransform((~region).view(np.uint8), cv2.DIST_L2, 5)
