"""Compositing in the planes of a codec: only where the person's edge is does a value change."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.foreground import BLOCK

Floats = NDArray[np.float32]
Plane = NDArray[np.uint8]


def lay_over(
    planes: Sequence[Plane],
    alpha: Plane,
    backgrounds: Sequence[Plane],
    means: NDArray[np.uint8] | None,
    results: Sequence[Plane],
) -> None:
    """Fill `results` with the person of `planes` before `backgrounds`; all are (H, W).

    `alpha` is (H, W) uint8. Where it is 255 the values are those of the person's planes, where it
    is 0 those of the background. `means` is (h, w, 2 n) uint8, for each of the n planes the local
    means of the foreground and of the background: between 0 and 255 they take the old background
    out (see `unmix` in `foreground`). None: the planes hold the person's own colour.
    """
    height, width = alpha.shape
    solid = cv2.compare(alpha, 255, cv2.CMP_EQ)
    for plane, background, result in zip(planes, backgrounds, results, strict=True):
        np.copyto(result, background)
        cv2.copyTo(plane, solid, result)
    mixed = np.flatnonzero(cv2.inRange(alpha, 1, 254).view(np.bool_))
    for start in range(0, mixed.size, BLOCK):
        index = mixed[start : start + BLOCK]
        share = alpha.reshape(-1).take(index).astype(np.float32)
        share /= 255
        sampled = None if means is None else sample_at(means, index, (height, width))
        for n, (plane, background, result) in enumerate(
            zip(planes, backgrounds, results, strict=True)
        ):
            own = plane.reshape(-1).take(index).astype(np.float32)
            if sampled is not None:
                own = unmix_plane(own, share, sampled[:, 2 * n], sampled[:, 2 * n + 1])
            behind = background.reshape(-1).take(index)
            own -= behind
            own *= share
            own += behind
            result.reshape(-1)[index] = np.rint(own, out=own).astype(np.uint8)


def unmix_plane(seen: Floats, alpha: Floats, own: Floats, other: Floats) -> Floats:
    """Return the foreground that, mixed with the mean background, comes nearer to what is seen.

    All are (n,) float32, values 0 to 255.
    """
    missing = seen - other - alpha * (own - other)
    missing *= alpha
    missing += own
    return np.clip(missing, 0, 255, out=missing)


def sample_at(
    picture: NDArray[np.uint8], index: NDArray[np.intp], shape: tuple[int, int]
) -> Floats:
    """Return a smaller picture (h, w, c) at the pixels `index` of one of `shape`, (n, c).

    Interpolated linearly between the centres of its pixels.
    """
    rows, columns = np.divmod(index.astype(np.int32), np.int32(shape[1]))
    maps = [
        (places.astype(np.float32) + np.float32(0.5)) * np.float32(small / full) - np.float32(0.5)
        for places, small, full in zip(
            (columns, rows), picture.shape[1::-1], shape[::-1], strict=True
        )
    ]
    sampled = cv2.remap(
        picture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled.reshape(len(index), -1).astype(np.float32)
