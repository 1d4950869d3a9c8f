"""Encode a large picture in a process of its own: the encoders themselves cannot be stopped."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.media.wire.apart import run_apart
from service.threads import IsLate

CHILD = "service.media.encoder.child"
# Pixels from which a process is worth its start: the encoders take a second for as many.
APART_PIXELS = {"webp": 12_000_000, "avif": 5_000_000, "psd": 8_000_000}


def is_large(pixels: NDArray[np.uint8], format: str) -> bool:
    """Say whether a picture is worth a process of its own; those of other formats never are."""
    return format in APART_PIXELS and math.prod(pixels.shape[:2]) >= APART_PIXELS[format]


def encode_apart(
    pictures: Mapping[str, NDArray[np.uint8]],
    icc: bytes,
    exif: bytes,
    is_late: IsLate,
    **options: Any,
) -> bytes:
    """Return the file that a child makes of a picture, or for `format=psd` of layers.

    Pictures are (H, W), (H, W, 3) or (H, W, 4) uint8; `options` are `format`, and `quality` and
    `compression` as `encode_image` has them. Raises what `run_apart` raises.
    """
    shapes = {name: pixels.shape for name, pixels in pictures.items()}
    facts = {"shapes": shapes, "icc": len(icc), "exif": len(exif), **options}
    parts = [np.ascontiguousarray(pixels).data for pixels in pictures.values()]
    return run_apart(CHILD, facts, [*parts, icc, exif], is_late)
