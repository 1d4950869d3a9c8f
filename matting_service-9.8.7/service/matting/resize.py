"""Resizing of images and mattes."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

# A picture may first shrink by a whole factor that leaves it this many times too large: several
# times faster than fair area averaging, and hard to tell from it (as Pillow's `reducing_gap`).
REDUCING_GAP = 2


Value = TypeVar("Value", np.uint8, np.float32)


def resize_image(
    image: NDArray[Value], size: tuple[int, int], gap: int = REDUCING_GAP
) -> NDArray[Value]:
    """Return the picture at (height, width), as the network sees it.

    Area averaging where the picture shrinks, in two steps where it shrinks much (see
    `find_whole_factor`); linear interpolation where it grows.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    factor = find_whole_factor(image.shape[:2], size, gap)
    if factor > 1:
        share = 1 / factor
        image = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    shrinks = image.shape[0] * image.shape[1] > height * width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[Value] = cv2.resize(image, (width, height), interpolation=method)
    return resized


def find_whole_factor(
    shape: tuple[int, ...], size: tuple[int, int], gap: int = REDUCING_GAP
) -> int:
    """Return the largest factor that divides both sides and leaves `gap` times `size`."""
    most = int(min(side / wanted for side, wanted in zip(shape, size, strict=True)) / gap)
    return next((n for n in range(most, 1, -1) if all(side % n == 0 for side in shape)), 1)


def resize_alpha(alpha: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return the matte at (height, width), float32 in [0, 1].

    Linear interpolation when it grows: area averaging, which MODNet's demo uses, repeats pixels
    and leaves blocks.
    """
    if alpha.shape == (height, width):
        return alpha
    grows = height * width > alpha.shape[0] * alpha.shape[1]
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    resized: NDArray[np.float32] = cv2.resize(alpha, (width, height), interpolation=method)
    cv2.min(resized, 1.0, dst=resized)  # the weights may sum to a little more than one
    return resized
