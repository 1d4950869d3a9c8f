"""Clean-up of an alpha matte: threshold, morphology, largest component, feather.

What takes seconds on 50 megapixels is done in tiles, and asks before each whether to go on.
"""

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.blur import choose_blur_size
from service.threads import IsLate, check_time, never

Alpha = NDArray[np.float32]
FAINT, SETTLED = 2 / 255, 8 / 255
WIDEST_DISC = 5  # pixels of radius
# Soft alpha above this joins pieces: a lock of hair hangs on its head by its haze.
CONNECT_ABOVE = 0.1
_STRIP_ROWS = 64  # that stay in the cache of a core
FINE_SIGMA = 8.0  # pixels; what a wider Gaussian leaves needs fewer pixels
TILE = 512  # pixels a side; large beside what a disc or a Gaussian reads around it


def clean_alpha(
    alpha: Alpha,
    *,
    threshold: float | None = None,
    erode: int = 0,
    dilate: int = 0,
    feather: float = 0.0,
    keep_largest: bool = False,
    is_late: IsLate = never,
) -> Alpha:
    """Return the corrected matte, (H, W) float32 in [0, 1]; without options the one given.

    In this order: `keep_largest` drops all but the largest piece, `threshold` makes alpha 1 from
    that value on and 0 below, `erode` and `dilate` shrink and grow by discs of so many pixels,
    `feather` blurs with a Gaussian of that sigma in pixels. Raises TooLate when `is_late` says so.
    """
    if keep_largest:
        alpha = keep_largest_piece(alpha, is_late)
    if threshold is not None:
        alpha = (alpha >= threshold).astype(np.float32)
    for change, amount in ((cv2.erode, erode), (cv2.dilate, dilate)):
        for radius in split_radius(amount):
            alpha = map_tiles(alpha, partial(change, kernel=make_disc(radius)), radius, is_late)
    return blur_alpha(alpha, feather, is_late) if feather else alpha


def map_tiles(alpha: Alpha, change: Callable[[Alpha], Alpha], reach: int, is_late: IsLate) -> Alpha:
    """Return `change(alpha)` for a change that reads no pixel further away than `reach`.

    One that leaves a matte of one value as it is: most of a photo is sure, and is not worked on.
    Raises TooLate.
    """
    result = np.empty_like(alpha)
    for rows, wide_rows in split_side(alpha.shape[0], reach):
        check_time(is_late)
        for columns, wide_columns in split_side(alpha.shape[1], reach):
            tile = alpha[wide_rows, wide_columns]
            least, most, _, _ = cv2.minMaxLoc(tile)
            if least == most:
                result[rows, columns] = least
                continue
            top, left = rows.start - wide_rows.start, columns.start - wide_columns.start
            inside = slice(top, top + rows.stop - rows.start)
            # A view would show OpenCV what lies beside it.
            changed = change(np.ascontiguousarray(tile))
            result[rows, columns] = changed[inside, left : left + columns.stop - columns.start]
    return result


def split_side(size: int, reach: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of one side, and each with what is read around it."""
    for start in range(0, size, TILE):
        end = min(size, start + TILE)
        yield slice(start, end), slice(max(0, start - reach), min(size, end + reach))


def settle_ends(alpha: Alpha, out: Alpha | None = None) -> Alpha:
    """Return alpha that is 0 under FAINT and 1 over 1 - FAINT, without a step.

    A network is never quite at its ends, and a level or two of a background show in a composite.
    Ramps lead from there to alpha as it is at SETTLED and 1 - SETTLED. `out` may be `alpha` itself.
    """
    slope = np.float32(SETTLED / (SETTLED - FAINT))
    shift = np.float32(FAINT) * slope
    rise = 1 - slope + 2 * shift
    settled = np.empty_like(alpha) if out is None else out
    buffer = np.empty((_STRIP_ROWS, alpha.shape[1]), np.float32)
    for top in range(0, len(alpha), _STRIP_ROWS):
        part, result = alpha[top : top + _STRIP_ROWS], settled[top : top + _STRIP_ROWS]
        ramp = buffer[: len(part)]
        np.multiply(part, slope, out=ramp)
        ramp -= shift
        np.minimum(ramp, part, out=result)
        ramp += rise
        np.maximum(result, ramp, out=result)
        np.clip(result, 0, 1, out=result)
    return settled


def split_radius(radius: int) -> list[int]:
    """Return radii of discs that do one after the other what the wide one does.

    A disc of 100 pixels looks at 31,000 for each, twenty of 5 at 81 each; the outline they make is
    within a tenth of a circle.
    """
    steps = -(-radius // WIDEST_DISC)
    return [radius * (i + 1) // steps - radius * i // steps for i in range(steps)]


def blur_alpha(alpha: Alpha, sigma: float, is_late: IsLate = never) -> Alpha:
    """Return the matte under a Gaussian of `sigma` pixels, a wide one on a smaller picture.

    Raises TooLate.
    """
    height, width = alpha.shape
    size, scale = choose_blur_size(height, width, sigma, FINE_SIGMA)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    side = round(8 * sigma * scale + 1) | 1  # OpenCV's own choice for floats
    soft = map_tiles(
        small,
        lambda tile: cv2.GaussianBlur(tile, (side, side), sigma * scale),
        side // 2,
        is_late,
    )
    # Weights sum to one only nearly.
    return np.minimum(cv2.resize(soft, (width, height)), 1)


def make_disc(radius: int) -> NDArray[np.uint8]:
    """Return a disc as a kernel of (2 * radius + 1) squared."""
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def keep_largest_piece(alpha: Alpha, is_late: IsLate = never) -> Alpha:
    """Return the matte with only the largest connected piece of alpha > 0.5 and what hangs on it.

    All that alpha > CONNECT_ABOVE joins to the largest piece stays, the solid islands in loose
    hair too. Fainter alpha goes with the region that is nearest, so that no haze ends at
    CONNECT_ABOVE and none is left around what was dropped. Pieces are 8-connected. Raises TooLate.
    """
    count, solid, stats, _ = cv2.connectedComponentsWithStats(
        (alpha > 0.5).view(np.uint8), connectivity=8
    )
    if count <= 2:  # the background and one piece
        return alpha
    check_time(is_late)
    largest = solid == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    count, regions = cv2.connectedComponents((alpha > CONNECT_ABOVE).view(np.uint8), connectivity=8)
    if count <= 2:
        return alpha
    check_time(is_late)
    own = regions == regions[np.unravel_index(np.argmax(largest), alpha.shape)]
    others = (regions != 0) & ~own
    distance = measure_distance(own)
    check_time(is_late)
    return np.where(distance <= measure_distance(others), alpha, np.float32(0))


def measure_distance(region: NDArray[np.bool_]) -> Alpha:
    """Return each pixel's distance to a region, pixels."""
    return cv2.distanceTransform((~region).view(np.uint8), cv2.DIST_L2, 5)
