"""Pixels of a clip that are not square, and what they are where all pixels are."""

from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from service.media.video.types import Image, VideoInfo

MAX_STRETCH = 4  # pixels of a stranger shape are a mistake of the file


def find_pixel_shape(info: VideoInfo) -> Fraction:
    """Return how wide a pixel of a clip is for its height, 1 where it says what cannot be."""
    shape = info.sample_aspect_ratio
    return shape if 1 / MAX_STRETCH <= shape <= MAX_STRETCH else Fraction(1)


def choose_square_size(info: VideoInfo) -> tuple[int, int]:
    """Return width and height of a clip in square pixels; nothing gets smaller."""
    shape = find_pixel_shape(info)
    if shape >= 1:
        return round(info.width * shape), info.height
    return info.width, round(info.height / shape)


def stretch(image: Image, size: tuple[int, int]) -> Image:
    """Return a picture, (H, W) or (H, W, C) uint8, at (width, height)."""
    if image.shape[1::-1] == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def describe_square_pictures(info: VideoInfo) -> dict[str, Any]:
    """Return what became of a clip's pictures on the way to square pixels, for JSON."""
    is_square = choose_square_size(info) == (info.width, info.height)
    return info.describe_changes() | ({} if is_square else {"square_pixels": True})
