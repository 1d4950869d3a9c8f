"""The bounding box of the person, and cropping to it with a margin."""

import re
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", np.uint8, np.float32)
_VALUE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(px|%)?", re.ASCII)


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels inside a picture."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Length:
    """So many pixels, or percent of a box."""

    value: float
    is_percent: bool = False

    def measure(self, whole: int) -> int:
        """Return the length in pixels; `whole` is the side that percents are of."""
        return round(self.value * whole / 100 if self.is_percent else self.value)


@dataclass(frozen=True)
class Margin:
    """Room on the four sides of a box."""

    top: Length
    right: Length
    bottom: Length
    left: Length


def find_subject(alpha: NDArray[np.float32]) -> Box | None:
    """Return the box around alpha (H, W) > 0.5, None when nothing is."""
    left, top, width, height = cv2.boundingRect((alpha > 0.5).view(np.uint8))
    return Box(left, top, width, height) if width else None


def parse_margin(text: str) -> Margin:
    """Return the margin of `12`, `12px`, `5%`, or two or four of these in the order of CSS.

    Two: above and below, then both sides. Four: top, right, bottom, left. Raises ValueError.
    """
    found = [_VALUE.fullmatch(part) for part in text.split()]
    lengths = [Length(float(one[1]), one[2] == "%") for one in found if one]
    if len(lengths) != len(found) or len(lengths) not in (1, 2, 4):
        raise ValueError("must be pixels such as 20px or percent such as 5%, one, two or four")
    if len(lengths) < 4:
        lengths = [lengths[0], lengths[-1]] * 2
    return Margin(*lengths)


def expand_box(box: Box, margin: Margin, shape: tuple[int, int]) -> Box:
    """Return the box with room around it, cut off where the picture of (H, W) ends.

    Percents are of the box's own width and height.
    """
    left = max(0, box.left - margin.left.measure(box.width))
    top = max(0, box.top - margin.top.measure(box.height))
    right = min(shape[1], box.left + box.width + margin.right.measure(box.width))
    bottom = min(shape[0], box.top + box.height + margin.bottom.measure(box.height))
    return Box(left, top, right - left, bottom - top)


def cut(picture: NDArray[Pixel], box: Box) -> NDArray[Pixel]:
    """Return the part of a picture (H, W) or (H, W, C) in a box, as an array of its own."""
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    return np.ascontiguousarray(picture[rows, columns])
