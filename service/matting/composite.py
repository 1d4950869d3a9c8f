"""Putting a person on a background: the compositing equation, and its 8-bit forms."""

import cv2
import numpy as np
from numpy.typing import NDArray


def quantise_alpha(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W) uint8 for alpha (H, W) float32 in [0, 1], rounded to nearest."""
    grey: NDArray[np.uint8] = cv2.convertScaleAbs(alpha, alpha=255.0)
    return grey


def cut_out(image: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W, 4) straight (not premultiplied) RGBA."""
    return np.dstack([image, quantise_alpha(alpha)])


def composite_over_colour(
    image: NDArray[np.uint8], alpha: NDArray[np.float32], colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return alpha * image + (1 - alpha) * colour, (H, W, 3) uint8 RGB.

    Porter and Duff's `over` on an opaque background (SIGGRAPH 1984), in the picture's own
    (gamma-encoded) values as every other matting tool does.
    """
    background = np.full_like(image, colour)
    blended: NDArray[np.uint8] = cv2.blendLinear(image, background, alpha, 1 - alpha)
    return blended


def composite_over_image(a, b, c): ...
def blur_background(a, b, c): ...
def cover(a, b, c): ...
