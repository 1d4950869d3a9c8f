"""Guided upsampling of the alpha of a frame that came in planes, without a picture in RGB."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.cleanup import settle_ends
from service.matting.refine import find_band, fit_colours
from service.matting.resize import resize_alpha

Floats = NDArray[np.float32]
Plane = NDArray[np.uint8]


def refine_planes(
    planes: Sequence[Plane], to_rgb: Floats, alpha: Floats, small: NDArray[np.uint8]
) -> Floats:
    """Return the settled matte at the size of a frame, its edges where the frame has them.

    `planes` are luma (H, W) and two of colour (H // 2, W // 2), uint8; `to_rgb` (3, 4) gives red,
    green and blue in [0, 1] of a sample of each and 1. `alpha` is (h, w) float32 in [0, 1], `small`
    the frame at that size, RGB; the result is (H, W) float32 in [0, 1], its faint remains gone
    (`settle_ends`). It is what `refine_alpha` makes of the frame in RGB, but for the colours
    between the samples: the same function of colour is applied to the planes as they are.
    """
    height, width = planes[0].shape
    band = find_band(alpha)
    if height * width <= alpha.size or not band.any():
        return settle_ends(resize_alpha(alpha, height, width))
    model = fit_colours(small.astype(np.float32) / np.float32(255), alpha, band)
    to_samples = np.column_stack([to_rgb.T, (0, 0, 0, 1)])
    *slopes, constant = cv2.split(cv2.transform(model, to_samples))
    # Beside the band the matte stays as it is.
    fade = cv2.blur(band.astype(np.float32), (3, 3))
    refined, cb, cr = (
        _apply(slope * fade, plane) for slope, plane in zip(slopes, planes, strict=True)
    )
    cb += cr
    refined += cv2.resize(cb, (width, height), interpolation=cv2.INTER_LINEAR)
    constant = alpha + fade * (constant - alpha)
    refined += cv2.resize(constant, (width, height), interpolation=cv2.INTER_LINEAR)
    np.clip(refined, 0, 1, out=refined)
    return settle_ends(refined, out=refined)


def _apply(slope: Floats, plane: Plane) -> Floats:
    height, width = plane.shape
    product = cv2.resize(slope, (width, height), interpolation=cv2.INTER_LINEAR)
    product *= plane
    return product
