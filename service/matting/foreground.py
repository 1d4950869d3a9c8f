"""The colour of the person alone, free of the background that shines through at the edges."""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.runs import find_runs

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

# Colours that are mixed in vary slowly: they are estimated on a picture of this shorter side.
SMALL_SIDE = 384
# A panorama is made smaller still, to so many squares of that side: the side bounds no work.
SMALL_SQUARES = 4
# Windows of the passes, as shares of the small picture's shorter side. The paper has two passes;
# the wide ones at the start carry the colour of solid parts into wide half-transparent bands.
WINDOWS = (0.5, 0.5, 0.5, 0.16, 0.05, 0.02, 0.01)
# How much more a solid pixel says about a colour than one that mixes two: its share to this power.
TRUST = 3
FAINT = 1e-5  # weight of a wider window's colour in a narrower one
CELL = 64  # pixels: the full picture is worked on in cells of that size


def estimate_foreground(image: Image, alpha: Floats, small_side: int = SMALL_SIDE) -> Image:
    """Return the person's own colour, (H, W, 3) uint8, for a picture that mixes it with another.

    `image` is (H, W, 3) uint8 and `alpha` (H, W) float32 in [0, 1]. Where alpha is 1 it is the
    image's value; between 0 and 1 the background is taken out; where alpha is 0 it is a smooth
    continuation, so that a filter over a cutout finds no rim. Blur fusion (Forte, "Approximate Fast
    Foreground Colour Estimation", ICIP 2021) on a picture whose shorter side is `small_side`, its
    last step on the full one.
    """
    height, width = alpha.shape
    foreground, background = estimate_means(image, alpha, small_side)
    size = (width, height)
    result: Image = cv2.resize(foreground, size, interpolation=cv2.INTER_LINEAR)
    behind = cv2.resize(background, size, interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(image, (alpha >= 1).astype(np.uint8), result)
    for top in range(0, height, CELL):
        rows = slice(top, top + CELL)
        mixed = np.any((alpha[rows] > 0) & (alpha[rows] < 1), axis=0)
        for first, last in find_runs(mixed, CELL):
            part = rows, slice(first * CELL, last * CELL)
            result[part] = unmix(image[part], alpha[part], result[part], behind[part])
    return result


def unmix(image: Image, alpha: Floats, foreground: Image, background: Image) -> Image:
    """Return the foreground that, mixed with the mean background, comes nearer to the image."""
    share = alpha[:, :, np.newaxis]
    expected = foreground.astype(np.float32)
    missing = image - share * expected - (1 - share) * background
    return np.rint(np.clip(expected + share * missing, 0, 255)).astype(np.uint8)


def estimate_means(
    image: Image, alpha: Floats, small_side: int = SMALL_SIDE
) -> tuple[Image, Image]:
    """Return local means of the foreground and the background colour, small, (h, w, 3) uint8."""
    height, width = alpha.shape
    area = SMALL_SQUARES * small_side**2
    scale = min(1.0, small_side / min(height, width), (area / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: Floats = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[:, :, np.newaxis]
    solid, clear = share**TRUST, (1 - share) ** TRUST
    total = share**2 + (1 - share) ** 2  # both colours corrected by their shares mix to the image
    foreground = background = mean_foreground = mean_background = small
    for window in WINDOWS:
        side = max(3, round(window * min(size)) | 1)  # an even window would shift the colours
        mean_foreground = blend(foreground, solid, mean_foreground, side)
        mean_background = blend(background, clear, mean_background, side)
        missing = (small - share * mean_foreground - (1 - share) * mean_background) / total
        foreground = np.clip(mean_foreground + share * missing, 0, 255)
        background = np.clip(mean_background + (1 - share) * missing, 0, 255)
    means = mean_foreground, mean_background
    return np.rint(means[0]).astype(np.uint8), np.rint(means[1]).astype(np.uint8)


def blend(colour: Floats, weight: Floats, wider: Floats, side: int) -> Floats:
    """Return the weighted mean of the window; what the wider one found where nothing weighs.

    Black in its place would be a dark rim around the cutout.
    """
    return (blur(colour * weight, side) + FAINT * wider) / (blur(weight, side) + FAINT)


def blur(x: Floats, side: int) -> Floats:
    """Return the box mean of (h, w, C); OpenCV drops a last axis of one."""
    return cv2.blur(x, (side, side)).reshape(x.shape)
