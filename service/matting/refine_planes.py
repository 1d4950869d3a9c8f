"""Guided upsampling of the alpha of a frame that came in planes, without a picture in RGB."""

import math
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

REACH = 2  # pixels of the matte beside the band in which the change fades out
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
    refined: Plane = cv2.resize(quantise_alpha(alpha), (width, height))
    near = cv2.boundingRect(band.view(np.uint8))
    rows, full_rows = choose_part(near[1], near[3], band.shape[0], height)
    columns, full_columns = choose_part(near[0], near[2], band.shape[1], width)
    part = rows, columns
    halves = [slice(x.start // 2, x.stop // 2) for x in (full_rows, full_columns)]
    chroma = [plane[halves[0], halves[1]] for plane in planes[1:]]
    refined[full_rows, full_columns] = _refine(
        (planes[0][full_rows, full_columns], *chroma), to_rgb, alpha[part], small[part], band[part]
    )
    return _settle(refined)


def choose_part(start: int, length: int, small: int, full: int) -> tuple[slice, slice]:
    """Return what a stretch of a small picture reaches, there and in the full one.

    Both begin and end where their pixels do, and the full ones at even places, so that enlarging
    the part gives the part of what is enlarged.
    """
    step = small // math.gcd(small, full)
    if step * full // small % 2:
        step *= 2
    first = max(0, (start - REACH) // step * step)
    last = -(-(start + length + REACH) // step) * step
    if last > small:  # it ends with the picture, whose sides are even
        last = small
    return slice(first, last), slice(first * full // small, last * full // small)


def _refine(
    planes: Sequence[Plane],
    to_rgb: Floats,
    alpha: Floats,
    small: NDArray[np.uint8],
    band: NDArray[np.bool_],
) -> Plane:
    """Return the matte of a part that holds the whole band, not settled yet."""
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
    refined: Plane = cv2.add(luma, _enlarge(constant, luma.shape), dtype=cv2.CV_8U)
    return refined


def _apply(slope: Floats, plane: Plane) -> Floats:
    product = _enlarge(slope, plane.shape)
    product *= plane
    return product


def _enlarge(x: Floats, shape: tuple[int, ...]) -> Floats:
    enlarged: Floats = cv2.resize(x, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return enlarged


def _settle(grey: Plane) -> Plane:
    return cv2.LUT(grey, _SETTLED)
