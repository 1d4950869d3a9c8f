"""Guided upsampling of the alpha of a frame that came in planes, without a picture in RGB."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.cleanup import settle_ends
from service.matting.composite import quantise_alpha
from service.matting.refine import find_band, fit_planes
from service.matting.resize import resize_alpha

Floats = NDArray[np.float32]
Plane = NDArray[np.uint8]

# What `settle_ends` makes of each level.
_SETTLED = quantise_alpha(settle_ends(np.arange(256, dtype=np.float32)[None] / np.float32(255)))


def refine_planes(
    planes: Sequence[Plane], to_rgb: Floats, alpha: Floats, small: NDArray[np.uint8]
) -> Plane:
    """Return the settled matte at the size of a frame, its edges where the frame has them.

    `planes` are luma (H, W) and two of colour (H // 2, W // 2), uint8; `to_rgb` (3, 4) gives red,
    green and blue in [0, 1] of a sample of each and 1. `alpha` is (h, w) float32 in [0, 1], `small`
    the frame at that size, RGB; the result is (H, W) uint8, its faint remains gone (`settle_ends`).
    It is what `refine_alpha` makes of the frame in RGB, but for the colours between the samples:
    the same function of colour is applied to the planes as they are.
    """
    height, width = planes[0].shape
    band = find_band(alpha)
    if height * width <= alpha.size or not band.any():
        return _settle(quantise_alpha(resize_alpha(alpha, height, width)))
    channels = [x.astype(np.float32) / np.float32(255) for x in cv2.split(small)]
    basis = np.column_stack([to_rgb.T, (0, 0, 0, 1)]).astype(np.float32)
    model = fit_planes(channels, alpha, band, basis)
    # Beside the band the matte stays as it is. Alpha goes to 255 from here on.
    fade = cv2.blur(band.astype(np.float32), (3, 3)) * np.float32(255)
    luma, cb, cr = (
        _apply(slope * fade, plane) for slope, plane in zip(model[:3], planes, strict=True)
    )
    cb += cr
    luma += _enlarge(cb, luma.shape)
    constant = (model[3] - alpha) * fade
    constant += alpha * np.float32(255)
    # OpenCV rounds to nearest and stays in 0 to 255.
    return _settle(cv2.add(luma, _enlarge(constant, luma.shape), dtype=cv2.CV_8U))


def _apply(slope: Floats, plane: Plane) -> Floats:
    product = _enlarge(slope, plane.shape)
    product *= plane
    return product


def _enlarge(x: Floats, shape: tuple[int, ...]) -> Floats:
    enlarged: Floats = cv2.resize(x, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return enlarged


def _settle(grey: Plane) -> Plane:
    return cv2.LUT(grey, _SETTLED)
