"""Convert decoded frames to upright RGB with increasing times (decoder child)."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from service.media.video.types import (
    Image,
    UndecodableVideo,
    VideoFrame,
    VideoLimitExceeded,
    VideoLimits,
)
from service.media.video.window import FrameSelector
from service.media.wire.fields import MAX_TICKS

_BT709, _SMPTE170M = 1, 6
# swscale's number of a YUV matrix, by its number in ITU-T H.273
SWS_MATRIX = {_BT709: 1, 4: 4, 5: 5, _SMPTE170M: 5, 7: 7, 9: 9, 10: 9}
SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_HD_HEIGHT = 720
_GUESSED_FRAME_RATE = Fraction(25)
_DISPLAY_MATRIX = SideDataType.DISPLAYMATRIX


class FrameReader:
    """Turns the library's frames into pictures, counting frames and seconds."""

    def __init__(self, stream: Any, first: Any, limits: VideoLimits, window: FrameSelector) -> None:
        self.limits = limits
        self.window = window
        self.time_base = Fraction(stream.time_base)
        self.average_rate = _frame_rate(stream)
        self.orientation = Orientation.of(first)
        self.colorspace = yuv_matrix(first.colorspace, first.height)
        if first.format.is_rgb or first.format.has_palette:
            self.colorspace = 0
        self._reformatter = VideoReformatter()
        self._coded_size = first.width, first.height
        self._first_pts: int | None = None
        self._last_pts = -MAX_TICKS
        self._expected_pts = 0
        self._count = 0

    def read(self, frame: Any) -> VideoFrame | None:
        """Return the picture, None for one that is not selected."""
        self._count += 1
        if self._count > self.limits.max_frames:
            raise VideoLimitExceeded("frames", self.limits.max_frames, self._count)
        check_size(frame.width, frame.height, self.limits)
        pts, duration = self._time(frame)
        if not self.window.takes_frame(pts * self.time_base):
            return None
        self._check_length(pts, duration)
        if self.window.rate is not None:
            duration = None  # the frames after it, left out, belong to it
        return VideoFrame(pts, duration, self.orientation.apply(self._to_rgb(frame)))

    def _time(self, frame: Any) -> tuple[int, int | None]:
        duration = frame.duration if 0 < frame.duration < MAX_TICKS else None
        pts = self._expected_pts if frame.pts is None else frame.pts
        pts = max(pts, self._last_pts + 1)
        if abs(pts) >= MAX_TICKS:
            raise UndecodableVideo("The video's timestamps make no sense.")
        step = duration or round(1 / (self.average_rate or _GUESSED_FRAME_RATE) / self.time_base)
        self._last_pts, self._expected_pts = pts, pts + max(step, 1)
        return pts, duration

    def _check_length(self, pts: int, duration: int | None) -> None:
        if self._first_pts is None:
            self._first_pts = pts
        elapsed_s = float((pts + (duration or 0) - self._first_pts) * self.time_base)
        if elapsed_s > self.limits.max_duration_s:
            raise VideoLimitExceeded("seconds", self.limits.max_duration_s, round(elapsed_s, 3))

    def _to_rgb(self, frame: Any) -> Image:
        is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        full_range = is_full or self.colorspace == 0
        width, height = self._coded_size
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=SWS_MATRIX.get(self.colorspace),
            src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )
        return np.asarray(rgb.to_ndarray(), np.uint8)


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: swap rows and columns, then flip."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def of(cls, frame: Any) -> "Orientation":
        """Read the display matrix of a frame: x' = a x + c y, y' = b x + d y, in 16.16 numbers."""
        if _DISPLAY_MATRIX not in (data.type for data in frame.side_data):
            return cls()
        matrix = np.frombuffer(bytes(frame.side_data[_DISPLAY_MATRIX]), np.int32)
        a, b, _, c, d = matrix[:5].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, flipped_x=c < 0, flipped_y=b < 0)
        return cls(False, flipped_x=a < 0, flipped_y=d < 0)

    @property
    def mirrored(self) -> bool:
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def rotation_deg(self) -> int:
        """The clockwise turn that follows the left-right flip of a mirrored picture."""
        if self.transposed:
            return 90 if self.flipped_x else 270
        return 180 if self.flipped_y else 0

    def apply(self, image: Image) -> Image:
        if self.transposed:
            image = image.swapaxes(0, 1)
        return np.ascontiguousarray(
            image[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]
        )


def yuv_matrix(stated: int, height: int) -> int:
    """Return the H.273 number of the YUV matrix: as stated, else guessed by height."""
    if stated in SWS_MATRIX:
        return stated
    return _SMPTE170M if height < _HD_HEIGHT else _BT709


def check_size(width: int, height: int, limits: VideoLimits) -> None:
    if max(width, height) > limits.max_side:
        raise VideoLimitExceeded("side", limits.max_side, max(width, height))
    megapixels = width * height / 1e6
    if megapixels > limits.max_frame_megapixels:
        raise VideoLimitExceeded("megapixels", limits.max_frame_megapixels, megapixels)


def _frame_rate(stream: Any) -> Fraction | None:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= 100_000 and max(rate.as_integer_ratio()) < 1 << 31:
            return Fraction(rate)
    return None
