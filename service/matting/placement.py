"""Moving and scaling the person on a canvas of the picture's size, and what is shown of it."""

import re
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.composite import composite_over_image
from service.matting.crop import Box
from service.matting.shadow import ShadowName, cast_shadow, darken, lay_under

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%", re.ASCII)
MIN_SCALE_PERCENT = 10
ORIGINAL, CENTRE = "original", "center"
# What a colour counts where alpha is 0: something, so that there is a colour at all.
_FAINT = np.float32(1e-3)


@dataclass(frozen=True)
class Placement:
    """Where the person goes.

    `scale`: share of the canvas that the person's box fits into, above 0, at most 1; None: as it
    is. `position`: shares of the room that is left, from the left and from the top, as
    `background-position` of CSS has them; None: the box's centre stays.
    """

    scale: float | None
    position: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class PlacedPerson:
    """The person where it goes: straight colour (H, W, 3) uint8, alpha (H, W), and a shadow."""

    colour: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    shadow: ShadowName = "none"

    @cached_property
    def _shadow_alpha(self) -> NDArray[np.float32]:
        return cast_shadow(self.alpha, self.shadow)

    def cut_out(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return straight colour and alpha of the person with the shadow under it."""
        if self.shadow == "none":
            return self.colour, self.alpha
        return lay_under(self.colour, self.alpha, self._shadow_alpha)

    def compose(self, background: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the person and the shadow before a background of its size, (H, W, 3) uint8."""
        if self.shadow != "none":
            background = darken(background, self._shadow_alpha)
        return composite_over_image(self.colour, self.alpha, background)


def parse_placement(scale: str, position: str) -> Placement | None:
    """Return what the options say, None where the person stays as it is. Raises ValueError.

    A scale without a position puts the person in the centre.
    """
    if scale == ORIGINAL and position in ("auto", ORIGINAL):
        return None
    return Placement(parse_scale(scale), parse_position(position, CENTRE))


def parse_scale(text: str) -> float | None:
    """Return the share of `50%`, None for `original`; raises ValueError."""
    if text == ORIGINAL:
        return None
    found = _PERCENT.fullmatch(text)
    if found is None or not MIN_SCALE_PERCENT <= float(found[1]) <= 100:
        raise ValueError(f"must be original or {MIN_SCALE_PERCENT}% to 100%")
    return float(found[1]) / 100


def parse_position(text: str, auto: str = ORIGINAL) -> tuple[float, float] | None:
    """Return the shares of `50%` or `0% 100%`; `auto` is what that means. Raises ValueError."""
    text = auto if text == "auto" else text
    if text == ORIGINAL:
        return None
    if text == CENTRE:
        return 0.5, 0.5
    found = [_PERCENT.fullmatch(part) for part in text.split()]
    shares = [float(one[1]) / 100 for one in found if one]
    if len(shares) != len(found) or len(shares) not in (1, 2) or max(shares) > 1:
        raise ValueError("must be auto, original, center, or one or two of 0% to 100%")
    return shares[0], shares[-1]


def place_person(
    colour: NDArray[np.uint8], alpha: NDArray[np.float32], box: Box, placement: Placement
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return straight colour (H, W, 3) and alpha (H, W) with the person moved, of the same size.

    `box` is the person's, in pixels. Whole pixels are moved where nothing is scaled, and stay
    exact; what leaves the canvas is cut off. Each colour counts by its alpha.
    """
    height, width = alpha.shape
    factor = 1.0
    if placement.scale is not None:
        factor = placement.scale * min(width / box.width, height / box.height)
    sides = factor * box.width, factor * box.height
    if placement.position is None:
        left = box.left + (box.width - sides[0]) / 2
        top = box.top + (box.height - sides[1]) / 2
    else:
        left = placement.position[0] * (width - sides[0])
        top = placement.position[1] * (height - sides[1])
    weight = alpha[:, :, np.newaxis] + _FAINT
    layers = np.dstack([colour * weight, weight])
    size = width, height
    if factor < 1:  # averaged over areas first: sampling alone would leave pixels out
        size = max(1, round(width * factor)), max(1, round(height * factor))
        layers = cv2.resize(layers, size, interpolation=cv2.INTER_AREA)
    # Between centres of pixels: scaled about the first corner, then moved by whole pixels.
    across, along = factor * width / size[0], factor * height / size[1]
    shift = round(left - factor * box.left), round(top - factor * box.top)
    matrix = np.array(
        [[across, 0, (across - 1) / 2 + shift[0]], [0, along, (along - 1) / 2 + shift[1]]]
    )
    moved = cv2.warpAffine(layers, matrix, (width, height), flags=cv2.INTER_LINEAR)
    total = moved[:, :, 3]
    share = np.maximum(total, _FAINT)[:, :, np.newaxis]
    colours: NDArray[np.uint8] = np.rint(np.minimum(moved[:, :, :3] / share, 255)).astype(np.uint8)
    placed: NDArray[np.float32] = np.clip(total - _FAINT, 0, 1)
    return colours, placed


def place_frame(
    colour: NDArray[np.uint8], alpha: NDArray[np.float32], placement: Placement
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Do what `place_person` does with the whole picture: a person who moves stays steady so."""
    height, width = alpha.shape
    return place_person(colour, alpha, Box(0, 0, width, height), placement)
