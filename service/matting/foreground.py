"""Foreground estimation: the colour of the person without the old background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.resize import resize_image

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

# Colours that are mixed in vary slowly: they are estimated on a picture of this shorter side.
SMALL_SIDE = 384
# A panorama is made smaller still, to so many squares of that side: the side bounds no work.
SMALL_SQUARES = 4
# Windows of the passes, as shares of the small picture's shorter side. The paper has two passes;
# the wide ones at the start carry the colour of solid parts into wide half-transparent bands.
WIDE_WINDOWS, NARROW_WINDOWS = (0.5, 0.5, 0.5, 0.16), (0.05, 0.02, 0.01)
FRAME_WIDE_WINDOWS = (0.5, 0.16)  # two passes less, for a mean difference of 0.01 of 255
# How much more a solid pixel says about a colour than one that mixes two: its share to this power.
SOLID_WEIGHT_POWER = 3
EPSILON = 1e-5  # weight of a wider window's colour in a narrower one
INVISIBLE = 1 / 255  # alpha this near to 0 or 1 changes no colour by more than one of 255
BLOCK = 1 << 14  # mixed pixels that are worked on at once


def estimate_foreground(image: Image, alpha: Floats, small_side: int = SMALL_SIDE) -> Image:
    """Return the person's own colour, (H, W, 3) uint8, for a picture that mixes it with another.

    `image` is (H, W, 3) uint8 and `alpha` (H, W) float32 in [0, 1]. Where alpha is 1 it is the
    image's value; between 0 and 1 the background is taken out; where alpha is 0 it is a smooth
    continuation, so that a filter over a cutout finds no rim. Blur fusion (Forte, "Approximate Fast
    Foreground Colour Estimation", ICIP 2021) on a picture whose shorter side is `small_side`, its
    last step on the full one.
    """
    size = alpha.shape[::-1]
    foreground, background = (
        cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR)
        for mean in estimate_means(image, alpha, small_side)
    )
    cv2.copyTo(image, (alpha >= 1 - INVISIBLE).astype(np.uint8), foreground)
    mixed = np.flatnonzero(cv2.inRange(alpha, INVISIBLE, 1 - INVISIBLE).view(np.bool_))
    shares = alpha.reshape(-1)
    pixels, own, other = (x.reshape(-1, 3) for x in (image, foreground, background))
    for start in range(0, mixed.size, BLOCK):
        index = mixed[start : start + BLOCK]
        seen, mean, behind = (x.take(index, axis=0) for x in (pixels, own, other))
        own[index] = unmix(seen, shares.take(index), mean, behind)
    return foreground


def unmix(image: Image, alpha: Floats, foreground: Image, background: Image) -> Image:
    """Return the foreground that, mixed with the mean background, comes nearer to the image.

    The pictures are (n, 3) uint8, `alpha` (n,) float32: pixels from anywhere.
    """
    share = np.repeat(alpha, 3).reshape(image.shape)
    expected = foreground.astype(np.float32)
    missing = image - share * expected - (1 - share) * background
    # OpenCV rounds to nearest and stays in 0 to 255.
    return cv2.add(expected, share * missing, dtype=cv2.CV_8U)


def estimate_means(
    image: Image, alpha: Floats, small_side: int = SMALL_SIDE
) -> tuple[Image, Image]:
    """Return local means of the foreground and the background colour, small, (h, w, 3) uint8."""
    size = choose_small_size(alpha.shape, small_side)
    return average(resize_image(image, size), resize_image(alpha, size))


def estimate_frame_means(
    network_image: Image, alpha: Image, small_side: int
) -> tuple[Image, Image]:
    """Do what `estimate_means` does for a frame whose picture is small already.

    `network_image` is (h, w, 3), `alpha` (H, W) uint8 of the whole frame. Interpolated linearly
    twice, which takes a quarter less time, and comes nearer to the means of a larger picture. Far
    from the edges of the person they are those of wide windows.
    """
    size = choose_small_size(alpha.shape, small_side)
    coarse = cv2.resize(alpha, network_image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    small, share = (
        cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR) for x in (network_image, coarse)
    )
    # A composite uses the means where the person and the background mix, and nowhere else.
    near = find_mixed(share)
    return average(small, share.astype(np.float32) / np.float32(255), FRAME_WIDE_WINDOWS, near)


def choose_small_size(shape: tuple[int, ...], small_side: int) -> tuple[int, int]:
    """Return the (height, width) at which the colours of a picture of `shape` are estimated."""
    height, width = shape
    area = SMALL_SQUARES * small_side**2
    scale = min(1.0, small_side / min(height, width), (area / (height * width)) ** 0.5)
    return max(1, round(height * scale)), max(1, round(width * scale))


def find_mixed(share: Image) -> tuple[slice, slice]:
    """Return rows and columns around all pixels between 0 and 255, and what their windows see."""
    left, top, width, height = cv2.boundingRect(cv2.inRange(share, 1, 254))
    margin = 2 + sum(side // 2 for side in find_sides(NARROW_WINDOWS, share.shape))
    rows = slice(max(0, top - margin), top + height + margin)
    return rows, slice(max(0, left - margin), left + width + margin)


def average(
    small: Image,
    share: Floats,
    wide_windows: tuple[float, ...] = WIDE_WINDOWS,
    near: tuple[slice, slice] = (slice(None), slice(None)),
) -> tuple[Image, Image]:
    """Return the means of a small picture and its matte, wide windows first.

    The narrow ones are for a part of it, `near`.
    """
    size = share.shape
    # Wide windows see nothing of the fine picture: they work on one a quarter as large.
    coarse = max(1, size[0] // 4), max(1, size[1] // 4)
    small_coarse, share_coarse = resize_image(small, coarse), resize_image(share, coarse)
    sides = find_sides(wide_windows, share_coarse.shape)
    wide = refine_means(small_coarse, share_coarse, None, sides)
    means = [cv2.resize(mean, size[::-1]) for mean in wide]
    parts = [mean[near] for mean in means]
    sides = find_sides(NARROW_WINDOWS, size)
    for part, mean in zip(parts, refine_means(small[near], share[near], parts, sides), strict=True):
        part[:] = mean
    return np.rint(means[0]).astype(np.uint8), np.rint(means[1]).astype(np.uint8)


def find_sides(windows: tuple[float, ...], shape: tuple[int, ...]) -> list[int]:
    """Return the sides of windows in pixels; an even one would shift the colours."""
    return [max(3, round(window * min(shape)) | 1) for window in windows]


def refine_means(
    image: Image, alpha: Floats, means: list[Floats] | None, sides: list[int]
) -> list[Floats]:
    """Return the local means of foreground and background, one pass for each window's side.

    `means` are those of wider windows; None: nothing is known yet, both are the picture.
    """
    picture = image.astype(np.float32)
    shares = to_three_channels(alpha), to_three_channels(1 - alpha)
    solid = [cv2.pow(share, SOLID_WEIGHT_POWER) for share in (alpha, 1 - alpha)]
    weights = [to_three_channels(weight) for weight in solid]
    # Both corrected by their shares mix to the image.
    gain = 1 / (shares[0] * shares[0] + shares[1] * shares[1])
    means = [mean.copy() for mean in means or (picture, picture)]
    missing, colour = np.empty_like(picture), np.empty_like(picture)
    for side in sides:
        np.multiply(shares[0], means[0], out=missing)
        missing += np.multiply(shares[1], means[1], out=colour)
        np.subtract(picture, missing, out=missing)
        missing *= gain
        for n, mean in enumerate(means):
            np.multiply(shares[n], missing, out=colour)
            colour += mean
            np.clip(colour, 0, 255, out=colour)
            colour *= weights[n]
            blend(cv2.blur(colour, (side, side)), cv2.blur(solid[n], (side, side)), mean)
    return means


def blend(colour: Floats, weight: Floats, mean: Floats) -> None:
    """Put the weighted mean of the window into `mean`, which stays where nothing weighs.

    Black in its place would be a dark rim around the cutout. `weight` is (h, w), the colours are
    (h, w, 3), those of the window multiplied by their weight.
    """
    gain: Floats = np.reciprocal(weight + np.float32(EPSILON))
    cv2.scaleAdd(mean, EPSILON, colour, dst=mean)
    cv2.multiply(mean, to_three_channels(gain), dst=mean)


def to_three_channels(x: Floats) -> Floats:
    """Return (h, w, 3) for (h, w): NumPy is eight times slower where a last axis is one."""
    return cv2.merge([x, x, x])
