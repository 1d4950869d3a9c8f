"""Composites of frames that came in planes, without a picture in RGB."""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.composite import fill
from service.matting.overlay import lay_over
from service.media.colour.planes import YuvPicture
from service.media.video.writing.yuv import YuvConverter

Pixels = NDArray[np.uint8]
PlainBackground = tuple[int, int, int] | Pixels  # a colour, or a picture of the frame's size


class PlaneBackground:
    """A background as planes; the newest is kept, for the frames that follow."""

    def __init__(self) -> None:
        self._background: PlainBackground | None = None
        self._planes: YuvPicture | None = None

    def get(self, background: PlainBackground, size: tuple[int, int], matrix: int) -> YuvPicture:
        """Return a colour or a picture in planes of (height, width)."""
        planes = self._planes
        if planes is None or background is not self._background or planes.matrix != matrix:
            picture = fill(background, *size) if isinstance(background, tuple) else background
            frame = YuvConverter(size[1], size[0], "yuv420p", matrix).convert(picture)
            planes = YuvPicture(np.asarray(frame.to_ndarray(), np.uint8), matrix)
            self._background, self._planes = background, planes
        return planes


def compose_planes(
    frame: YuvPicture,
    alpha: Pixels,
    background: YuvPicture,
    means: tuple[Pixels, Pixels] | None,
) -> YuvPicture:
    """Return the person of a frame before a background of its size.

    `alpha` is (H, W) uint8. `means`: local means of the foreground and of the background in RGB,
    small, (h, w, 3) uint8 (see `estimate_means`); None: the frame holds the person's own colour.
    Colour is mixed by the mean alpha of the four pixels that share it.
    """
    result = YuvPicture(np.empty_like(frame.planes), frame.matrix)
    small = None if means is None else [frame.convert(mean) for mean in means]
    luma_means = chroma_means = None
    if small is not None:
        luma_means = np.dstack([mean[..., 0] for mean in small])
        chroma_means = np.dstack([mean[..., n] for n in (1, 2) for mean in small])
    lay_over([frame.luma], alpha, [background.luma], luma_means, [result.luma])
    height, width = frame.size
    shared = cv2.resize(alpha, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    lay_over(frame.chroma, shared, background.chroma, chroma_means, result.chroma)
    return result
