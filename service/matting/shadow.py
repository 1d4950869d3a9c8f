"""The shadow that a person throws on what is behind, made from the matte alone."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.blur import choose_blur_size
from service.matting.composite import FINE_SIGMA

ShadowName = Literal["none", "soft", "drop"]


@dataclass(frozen=True)
class Shadow:
    """A shadow; lengths are shares of the longer side, `right` and `down` its offset."""

    sigma: float
    right: float
    down: float
    opacity: float


SHADOWS: dict[ShadowName, Shadow] = {
    "soft": Shadow(sigma=1 / 40, right=0.0, down=1 / 80, opacity=0.45),
    "drop": Shadow(sigma=1 / 150, right=1 / 60, down=1 / 60, opacity=0.5),
}


def cast_shadow(alpha: NDArray[np.float32], name: ShadowName) -> NDArray[np.float32]:
    """Return how opaque the shadow of alpha (H, W) is, (H, W) float32 in [0, 1].

    `name` is one of SHADOWS. A person who is cut off by the border goes on behind it, and so does
    the shadow.
    """
    shadow = SHADOWS[name]
    height, width = alpha.shape
    side = max(height, width)
    size, scale = choose_blur_size(height, width, shadow.sigma * side, FINE_SIGMA)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    shift = np.array(
        [[1, 0, shadow.right * side * scale], [0, 1, shadow.down * side * scale]], np.float32
    )
    border = cv2.BORDER_REPLICATE
    moved = cv2.warpAffine(small, shift, size, flags=cv2.INTER_LINEAR, borderMode=border)
    soft = cv2.GaussianBlur(moved, (0, 0), shadow.sigma * side * scale, borderType=border)
    whole = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    opacity: NDArray[np.float32] = np.clip(whole, 0, 1) * np.float32(shadow.opacity)
    return opacity


def darken(background: NDArray[np.uint8], shadow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the background (H, W, 3) under a black shadow, in its own gamma-encoded values."""
    dark: NDArray[np.uint8] = cv2.blendLinear(
        background, np.zeros_like(background), 1 - shadow, shadow
    )
    return dark


def lay_under(
    colour: NDArray[np.uint8], alpha: NDArray[np.float32], shadow: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return straight colour (H, W, 3) and alpha of the person over the black shadow.

    Over any background they give what the person over the darkened background is (Porter and
    Duff's `over` is associative). Where no shadow is, both are unchanged.
    """
    both = alpha + shadow * (1 - alpha)
    share = np.divide(alpha, both, out=np.ones_like(both), where=shadow > 0)
    darker: NDArray[np.uint8] = cv2.blendLinear(colour, np.zeros_like(colour), share, 1 - share)
    return darker, both
