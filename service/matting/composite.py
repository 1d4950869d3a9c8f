"""Compositing a foreground over a background (Porter and Duff, 1984), in 8 bits."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.blur import choose_blur_size

BLUR_SHARE = 1 / 40  # of the longer side: the radius that nobody chose
FINE_SIGMA = 4.0  # pixels; what a wider blur leaves of a picture needs fewer pixels


@dataclass(frozen=True)
class Blur:
    """The picture's own background out of focus; `radius` in pixels, None: by the size."""

    radius: float | None = None


# A colour, the picture's own background, or a picture (h, w, 3) uint8 of any size.
Background = tuple[int, int, int] | Blur | NDArray[np.uint8]


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
    return composite_over_image(image, alpha, fill(colour, *alpha.shape))


def fill(colour: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of one colour, (height, width, 3) uint8."""
    # Row by row: NumPy is twenty times slower where it repeats an axis of three.
    picture = np.empty((height, width, 3), np.uint8)
    picture.reshape(height, -1)[:] = np.tile(np.array(colour, np.uint8), width)
    return picture


def draw_background(
    background: Background, alpha: NDArray[np.float32], image: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return what is behind the person of `image` as a picture of its size, (H, W, 3) uint8."""
    if isinstance(background, tuple):
        return fill(background, *alpha.shape)
    if isinstance(background, Blur):
        radius = background.radius or max(alpha.shape) * BLUR_SHARE
        return blur_background(image, alpha, radius)
    return cover(background, *alpha.shape)


def composite_over_image(
    foreground: NDArray[np.uint8], alpha: NDArray[np.float32], background: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return alpha * foreground + (1 - alpha) * background; all of one size, (H, W, 3) uint8."""
    blended: NDArray[np.uint8] = cv2.blendLinear(foreground, background, alpha, 1 - alpha)
    return blended


def cover(
    background: NDArray[np.uint8], height: int, width: int, shape: float = 1
) -> NDArray[np.uint8]:
    """Return a picture of any size scaled to fill (height, width), what sticks out cut off.

    As `object-fit: cover` of CSS does, about the centre. `shape`: how wide a pixel of the picture
    is against one of the frame, where both are as high.
    """
    if background.shape[:2] == (height, width) and shape == 1:
        return background
    scale = max(height / background.shape[0], width / (background.shape[1] * shape))
    kept = (
        min(round(height / scale), background.shape[0]),
        min(round(width / (scale * shape)), background.shape[1]),
    )
    rows, columns = max(1, kept[0]), max(1, kept[1])
    top, left = (background.shape[0] - rows) // 2, (background.shape[1] - columns) // 2
    part = background[top : top + rows, left : left + columns]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    filled: NDArray[np.uint8] = cv2.resize(part, (width, height), interpolation=method)
    return filled


def blur_background(
    image: NDArray[np.uint8], alpha: NDArray[np.float32], radius: float
) -> NDArray[np.uint8]:
    """Return the picture out of focus and without the person, (H, W, 3) uint8.

    `radius` is the Gaussian's sigma in pixels. Each pixel counts by 1 - alpha (normalised
    convolution, Knutsson and Westin 1993), so that the person leaves no halo.
    """
    height, width = alpha.shape
    size, scale = choose_blur_size(height, width, radius, FINE_SIGMA)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    # Pixels at the edge hold some of the person; deep inside there must be something all the same.
    weight = np.maximum(1 - cv2.dilate(share, np.ones((3, 3), np.uint8)), 1e-4)[:, :, np.newaxis]
    sigma = max(radius * scale, 0.1)
    soft = cv2.GaussianBlur(np.float32(small) * weight, (0, 0), sigma)
    total = cv2.GaussianBlur(weight, (0, 0), sigma).reshape(weight.shape)
    picture = np.rint(soft / total).clip(0, 255).astype(np.uint8)
    blurred: NDArray[np.uint8] = cv2.resize(picture, (width, height))
    return blurred
