"""Pictures as codecs hold them: Y'CbCr in planes, with half as many samples of colour each way."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from service.matting.resize import resize_image

Samples = NDArray[np.uint8]

# The matrices of H.273, table 4, that swscale knows, by its own numbers.
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
PRECISE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
SCALING = Interpolation.BILINEAR | PRECISE
# R'G'B' of 16 bits, in planes: into packed pixels (rgb48le) the library of FFmpeg 8.1 makes garbage
# of chroma that has to be doubled in height.
DEEP_RGB = "gbrp16le"
# Shares of red and blue in luma by the H.273 number of the matrix (tables 4 and equations 39 on).
BT_601 = 6
_LUMA_SHARES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


@cache
def _weigh(matrix: int) -> NDArray[np.float32]:
    """Return (3, 4): the shares of red, green and blue and a constant, by luma, Cb and Cr."""
    red, blue = _LUMA_SHARES[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    cb, cr = (np.array([0, 0, 1]) - luma) / (1 - blue), (np.array([1, 0, 0]) - luma) / (1 - red)
    shares = np.stack([luma * 219, cb * 112, cr * 112]) / 255
    return np.column_stack([shares, (16, 128, 128)]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class YuvPicture:
    """A picture of even sides in 4:2:0 and limited range.

    `planes` is (H * 3 // 2, W) uint8: H rows of luma, then the samples of Cb and those of Cr, each
    (H // 2, W // 2). `matrix` is the H.273 number, one of SWS_MATRIX.
    """

    planes: Samples
    matrix: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return len(self.planes) * 2 // 3, self.planes.shape[1]

    @property
    def luma(self) -> Samples:
        """(H, W), 16 to 235 from black to white; a view."""
        return self.planes[: self.size[0]]

    @property
    def chroma(self) -> tuple[Samples, Samples]:
        """Cb and Cr, (H // 2, W // 2) each, 128 where there is no colour; views."""
        height, width = self.size
        cb, cr = self.planes[height:].reshape(2, height // 2, width // 2)
        return cb, cr

    @cached_property
    def rgb(self) -> Samples:
        """(H, W, 3) RGB, made when it is first asked for."""
        return self._reformat(*self.size, SCALING)

    def shrink(self, size: tuple[int, int]) -> Samples:
        """Return the picture at another (height, width), RGB; see `resize_image`.

        Shrunk in planes, which takes a fourth of the time of converting it at its full size.
        """
        samples = cv2.merge([resize_image(plane, size) for plane in (self.luma, *self.chroma)])
        return np.asarray(cv2.transform(samples, self.to_rgb * np.float32(255)), np.uint8)

    @property
    def to_rgb(self) -> NDArray[np.float32]:
        """(3, 4): red, green and blue in [0, 1] by luma, Cb, Cr and 1."""
        weights = _weigh(self.matrix)
        inverse = np.linalg.inv(weights[:, :3])
        matrix = np.column_stack([inverse, -inverse @ weights[:, 3]]) / 255
        return np.asarray(matrix, np.float32)

    def to_blocks(self) -> Samples:
        """Return (H, W, 3) RGB in which four pixels have the colour of their one sample.

        So the planes come back from it as they were, but for rounding; a tenth of the time of
        `rgb`. For planes of `to_planes` alone, whose matrix OpenCV knows.
        """
        assert self.matrix == BT_601
        return np.asarray(cv2.cvtColor(self.planes, cv2.COLOR_YUV2RGB_I420), np.uint8)

    def convert(self, rgb: Samples) -> Samples:
        """Return luma, Cb and Cr of each pixel of an RGB picture, (h, w, 3), as in this one."""
        return np.asarray(cv2.transform(rgb, _weigh(self.matrix)), np.uint8)

    def _reformat(self, height: int, width: int, interpolation: int) -> Samples:
        # The library finds the last plane of a buffer only if the one before has whole rows of it.
        wrap = av.VideoFrame.from_ndarray if self.size[0] % 4 else av.VideoFrame.from_numpy_buffer
        frame: Any = wrap(self.planes, "yuv420p")
        rgb = VideoReformatter().reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=SWS_MATRIX[self.matrix],
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=interpolation,
            threads=1,
        )
        return np.asarray(rgb.to_ndarray(), np.uint8)


def to_planes(rgb: Samples) -> YuvPicture:
    """Return an RGB picture of even sides, (H, W, 3), in planes."""
    planes = YuvPicture(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8), BT_601)
    # OpenCV takes the colour of one pixel for that of four.
    height, width = planes.size
    means = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    for plane, samples in zip(planes.chroma, cv2.split(planes.convert(means))[1:], strict=True):
        plane[:] = samples
    return planes
