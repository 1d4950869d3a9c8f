"""Pictures of a result as encoders take them: padded to even sides, in YUV of limited range."""

from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from service.media.video_frames import SCALING, SWS_MATRIX
from service.media.video_types import Image


class YuvConverter:
    """Converts pictures of one size; `matrix` is the H.273 number of the YUV matrix.

    `padded`: pixels that are added right and below, 1 where a side is odd, by repeating the edge.
    `pixel_format` is FFmpeg's name.
    """

    def __init__(self, width: int, height: int, pixel_format: str, matrix: int) -> None:
        self.padded = width % 2, height % 2
        self._pixel_format = pixel_format
        self._matrix = SWS_MATRIX[matrix]
        self._reformatter = VideoReformatter()

    def convert(self, image: Image) -> Any:
        """Return the library's frame for (H, W, 3) RGB or (H, W, 4) RGBA, uint8."""
        right, below = self.padded
        if right or below:
            replicate = cv2.BORDER_REPLICATE
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, replicate), np.uint8)
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, "rgb24" if image.shape[2] == 3 else "rgba"),
            format=self._pixel_format,
            dst_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
        )
