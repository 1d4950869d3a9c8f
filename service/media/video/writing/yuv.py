"""Convert RGB pictures to padded YUV of limited range."""

from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from service.media.colour.planes import SCALING, SWS_MATRIX, YuvPicture
from service.media.video.types import Image

# Luma of limited range for each level of grey (ITU-T H.273); its chroma is that of no colour.
_LUMA = np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_NO_COLOUR = 128
BT709 = 1  # of ITU-T H.273


class YuvConverter:
    """Converts pictures of one size; `matrix` is the H.273 number of the YUV matrix.

    `padded`: pixels that are added right and below, 1 where a side is odd, by repeating the edge.
    `pixel_format` is FFmpeg's name.
    """

    def __init__(self, width: int, height: int, pixel_format: str, matrix: int) -> None:
        self.padded = width % 2, height % 2
        self._pixel_format = pixel_format
        self._matrix, self._sws_matrix = matrix, SWS_MATRIX[matrix]
        self._reformatter = VideoReformatter()

    def convert(self, image: Image | YuvPicture) -> Any:
        """Return the library's frame for (H, W, 3) RGB or (H, W, 4) RGBA, uint8.

        Pictures in yuv420p may be grey, (H, W), or planes, which stay as they are.
        """
        if isinstance(image, YuvPicture):
            if self._pixel_format == "yuv420p" and image.matrix == self._matrix:
                return self._wrap(image.planes)
            image = image.rgb
        right, below = self.padded
        if right or below:
            replicate = cv2.BORDER_REPLICATE
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, replicate), np.uint8)
        if image.ndim == 2:
            return self._convert_grey(image)
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, "rgb24" if image.shape[2] == 3 else "rgba"),
            format=self._pixel_format,
            dst_colorspace=self._sws_matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
        )

    def _convert_grey(self, image: Image) -> Any:
        """A matte needs no conversion of colours, which takes longer than all else done to it."""
        height, width = image.shape
        planes = np.full((height * 3 // 2, width), _NO_COLOUR, np.uint8)
        cv2.LUT(image, _LUMA, dst=planes[:height])
        return self._wrap(planes)

    def _wrap(self, planes: Image) -> Any:
        frame = av.VideoFrame.from_ndarray(planes, self._pixel_format)
        frame.colorspace, frame.color_range = self._matrix, ColorRange.MPEG
        return frame


def state_bt709(context: Any) -> None:
    """Have an encoder say that its pictures are BT.709 of limited range."""
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
