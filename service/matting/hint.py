"""What a user knows better than the network: a region of interest, and strokes that keep or remove.

A hint is (H, W) uint8: 255 keeps, 0 removes, 128 leaves the pixel to the network, and what lies
between pulls alpha up or down, so that the soft edge of a brush stays soft.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.crop import Box

NEUTRAL = 128
_PIXELS = re.compile(",".join([r"(\d{1,6})"] * 4), re.ASCII)
_PERCENT = re.compile(",".join([r"(\d{1,3}(?:\.\d{1,4})?)%"] * 4), re.ASCII)


@dataclass(frozen=True)
class Region:
    """A region of interest, in whole pixels or, the same for all four, in percent of the picture.

    Raises ValueError for percents that end beyond 100.
    """

    left: float
    top: float
    width: float
    height: float
    is_percent: bool = False

    def __post_init__(self) -> None:
        right, bottom = self.left + self.width, self.top + self.height
        if self.is_percent and max(right, bottom) > 100 + 1e-9:
            raise ValueError(f"the roi ends at {right:g} %, {bottom:g} %, the picture at 100 %")

    def find_box(self, shape: tuple[int, ...]) -> Box:
        """Return the box in a picture of (H, W, ...), a pixel at least.

        Raises ValueError when the picture does not hold it.
        """
        height, width = shape[:2]
        if self.is_percent:
            left, right = _place(self.left, self.width, width)
            top, bottom = _place(self.top, self.height, height)
            return Box(left, top, right - left, bottom - top)
        box = Box(int(self.left), int(self.top), int(self.width), int(self.height))
        right, bottom = box.left + box.width, box.top + box.height
        if bottom > height or right > width:
            raise ValueError(f"the roi ends at {right}, {bottom}, the picture at {width}, {height}")
        return box


def _place(start: float, length: float, side: int) -> tuple[int, int]:
    """Return where percents of a side begin and end, in pixels."""
    first = min(round(start * side / 100), side - 1)
    return first, max(first + 1, round((start + length) * side / 100))


def parse_roi(text: str) -> Region:
    """Return the region of `left,top,width,height`; raises ValueError."""
    plain = text.replace(" ", "")
    pixels, percent = _PIXELS.fullmatch(plain), _PERCENT.fullmatch(plain)
    found = pixels or percent
    left, top, width, height = map(float, found.groups()) if found else (0, 0, 0, 0)
    if not width or not height:
        raise ValueError(
            "must be left,top,width,height, all in whole pixels such as 120,0,640,480 or all in "
            "percent such as 10%,0%,50%,100%"
        )
    return Region(left, top, width, height, is_percent=pixels is None)


def make_hint(
    shape: tuple[int, int], roi: Box | None, strokes: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Return the hint for a picture of a shape: `strokes`, and removal of all outside `roi`."""
    hint = np.full(shape, NEUTRAL, np.uint8) if strokes is None else strokes.copy()
    if roi is not None:
        inside = np.zeros(shape, bool)
        inside[roi.top : roi.top + roi.height, roi.left : roi.left + roi.width] = True
        hint[~inside] = 0
    return hint


def read_strokes(image: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return the hint that a picture (H, W, 3) shows; where it is transparent, it says nothing."""
    grey: NDArray[np.uint8] = image[:, :, 1]
    if alpha is None:
        return grey
    weight = alpha.astype(np.float32) / np.float32(255)
    mixed = np.float32(NEUTRAL) + (grey.astype(np.float32) - np.float32(NEUTRAL)) * weight
    return np.rint(mixed).astype(np.uint8)


def apply_hint(alpha: NDArray[np.float32], hint: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return alpha (H, W) float32 in [0, 1], kept and removed as the hint says."""
    strength = (hint.astype(np.float32) - NEUTRAL) / NEUTRAL
    strength[np.abs(strength) < 1.5 / NEUTRAL] = 0  # 127 and 128 are both the middle
    strength[hint == 255] = 1
    changed = np.minimum(np.maximum(alpha, strength), 1 + np.minimum(strength, 0))
    return changed.astype(np.float32)


def choose_whole_size(matte: tuple[int, ...], roi: Box, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of a whole picture's matte, where that of `roi` has those of `matte`.

    It is never larger than the picture, (H, W).
    """
    scale_y, scale_x = min(1.0, matte[0] / roi.height), min(1.0, matte[1] / roi.width)
    return max(1, round(shape[0] * scale_y)), max(1, round(shape[1] * scale_x))


def embed_matte(
    matte: NDArray[np.float32], roi: Box, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the matte of a whole picture of a shape, 0 but in `roi`, of which `matte` is.

    It has the resolution of `matte`, but is never larger than the picture.
    """
    height, width = choose_whole_size(matte.shape, roi, shape)
    to_x, to_y = width / shape[1], height / shape[0]
    if matte.shape[0] > roi.height * to_y:  # shrink by areas first: warping takes single pixels
        size = max(1, round(roi.width * to_x)), max(1, round(roi.height * to_y))
        matte = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)
    step_x = roi.width * to_x / matte.shape[1]
    step_y = roi.height * to_y / matte.shape[0]
    warp = np.array(
        [
            [step_x, 0, roi.left * to_x + step_x / 2 - 0.5],
            [0, step_y, roi.top * to_y + step_y / 2 - 0.5],
        ]
    )
    whole: NDArray[np.float32] = cv2.warpAffine(
        matte, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = np.zeros((height, width), bool)
    rows = slice(int(roi.top * to_y), int(np.ceil((roi.top + roi.height) * to_y)))
    columns = slice(int(roi.left * to_x), int(np.ceil((roi.left + roi.width) * to_x)))
    inside[rows, columns] = True
    whole[~inside] = 0
    return whole
