"""Strands of hair for photos: closed-form matting where the network's alpha is unsure.

By PyMatting, which comes with the extra `fine`: it brings numba and scipy.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.refine import refine_alpha
from service.threads import IsLate, TooLate

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Band = NDArray[np.bool_]
Solve = Callable[[Image, Floats, Band, IsLate], Floats]

SURE_BELOW, SURE_ABOVE = 0.05, 0.95  # alpha beyond these is kept, away from the unsure band
WIDENING = 120  # the band is widened by this part of the shorter side
MAX_PIXELS = 4_000_000  # larger photos are matted at this size, and refined from there
MAX_BAND = 500_000  # unsure pixels, of which hair has less: beyond, the matte gets smaller
MARGIN = 2  # pixels around the band: a window of the closed form has 3 x 3
RIDGE = 1e-6  # on the colours' variance in a window
TOLERANCE = 1e-5  # relative, of the solver: far below a grey level
FILL = 100  # values a row that a preconditioner may have; photos need some 60


def solve(image: Image, alpha: Floats, band: Band, is_late: IsLate) -> Floats:
    """Return alpha in the band, (h, w) float32, from what is sure around it."""
    from pymatting import estimate_alpha_cf

    def check_time(*_: object) -> None:
        if is_late():
            raise TooLate

    check_time()
    trimap = np.where(alpha < 0.5, 0.0, 1.0)
    trimap[band] = 0.5
    if band.all() or not ((trimap == 0).any() and (trimap == 1).any()):
        return alpha  # nothing is sure, or all of it is the same
    found = estimate_alpha_cf(
        image.astype(np.float64) / 255,
        trimap,
        preconditioner=precondition,
        laplacian_kwargs={"epsilon": RIDGE},
        cg_kwargs={"rtol": TOLERANCE, "callback": check_time},
    )
    return found.astype(np.float32)


def precondition(system: Any) -> Any:
    """Return what makes the solver quick for a sparse matrix; for noise less, in bounded memory."""
    from pymatting import ichol, jacobi

    try:
        return ichol(system, max_nnz=FILL * system.shape[0])
    except ValueError:  # it would have more values
        return jacobi(system)


def refine_strands(image: Image, alpha: Floats, is_late: IsLate, solve: Solve = solve) -> Floats:
    """Return the matte with single strands where there was haze.

    `image` is (H, W, 3) uint8 RGB, `alpha` (H, W) float32 in [0, 1], refined; so is the result.
    Closed-form matting (Levin et al., "A Closed-Form Solution to Natural Image Matting", 2008):
    alpha is locally linear in colour, between what is surely person and surely not. `solve` may do
    that elsewhere. Raises TooLate when `is_late` says so.
    """
    height, width = alpha.shape
    scale = (MAX_PIXELS / (height * width)) ** 0.5
    if scale >= 1:
        band = find_unsure(alpha)
        if not band.any():
            return alpha
        scale = (MAX_BAND / np.count_nonzero(band)) ** 0.5
    if scale < 1:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
        return refine_alpha(image, refine_strands(small, coarse, is_late, solve), small)
    rows, columns = find_span(band.max(axis=1)), find_span(band.max(axis=0))
    refined = alpha.copy()
    target = refined[rows, columns]
    inside = band[rows, columns]
    target[inside] = solve(image[rows, columns], target, inside, is_late)[inside]
    return refined


def find_unsure(alpha: Floats) -> NDArray[np.bool_]:
    """Return where the network is unsure, and around it, (H, W)."""
    unsure = ((alpha > SURE_BELOW) & (alpha < SURE_ABOVE)).astype(np.uint8)
    reach = max(1, round(min(alpha.shape) / WIDENING))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    return cv2.dilate(unsure, kernel).astype(np.bool_)


def find_span(hit: NDArray[np.bool_]) -> slice:
    """Return from the first to the last hit, and a margin."""
    places = np.flatnonzero(hit)
    return slice(max(0, places[0] - MARGIN), places[-1] + 1 + MARGIN)
