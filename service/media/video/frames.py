"""Convert decoded frames to upright RGB of one size with increasing times (decoder child)."""

import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any, overload

import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from service.media.video.container.crops import Crop
from service.media.video.pixels import ColourCodes, PixelReader
from service.media.video.turns import Orientation, measure_rest, states_turn
from service.media.video.types import (
    Box,
    Image,
    UndecodableVideo,
    VideoFrame,
    VideoLimitExceeded,
    VideoLimits,
)
from service.media.video.window import FrameSelector
from service.media.wire.fields import MAX_TICKS

_GUESSED_FRAME_RATE = Fraction(25)
_SAME_SHAPE = 1.02  # sides are whole numbers, and rounded to blocks
# Codecs of photos in a row: what one says of itself says nothing of the next.
_EACH_BY_ITSELF = ("mjpeg",)


class FrameReader:
    """Turns the library's frames into pictures, counting frames and seconds.

    `codes`: the colour that the container states. `rate`: the clip's frames a second where it is
    known, `untrue_rate` what its header says instead. `size`: width and height of coded pictures
    that the clip promises, `crop` what of them is shown. `measure_stretch` says how much wider than
    those of the first frame pixels are that are shown at some time. Raises UndecodableVideo for HDR
    unless it `tone_maps`.
    """

    def __init__(
        self,
        first: Any,
        codes: ColourCodes,
        codec: str,
        limits: VideoLimits,
        window: FrameSelector,
        *,
        time_base: Fraction,
        rate: Fraction | None,
        untrue_rate: Fraction | None,
        size: tuple[int, int],
        crop: Crop | None,
        measure_stretch: Callable[[int | None], Fraction],
        tone_maps: bool,
    ) -> None:
        self.limits = limits
        self.window = window
        self.time_base = time_base
        self.average_rate = rate
        self._untrue_duration = round(1 / untrue_rate / time_base) if untrue_rate else None
        self.orientation = self._turn = Orientation.of(first)
        self.turn_ignored_deg = measure_rest(first)
        self.moved = self.resized = self.fitted = self.colour_changes = 0
        self._crop, self._measure_stretch = crop, measure_stretch
        self._coded_size = crop.size if crop is not None and crop.coded == size else size
        self._container_codes, self._codec, self._tone_maps = codes, codec, tone_maps
        self.pixels = self._make_pixel_reader(first, self._choose_codes(first))
        self._first_pts: int | None = None
        self._last_pts = -MAX_TICKS
        self._expected_pts = 0
        self._count = 0
        self.end_pts = 0

    def count_frame(self) -> None:
        """Count one more frame that was decoded or should have been."""
        self._count += 1
        if self._count > self.limits.max_frames:
            raise VideoLimitExceeded("frames", self.limits.max_frames, self._count)

    def read(self, frame: Any) -> VideoFrame | None:
        """Return the picture, None for one that is not selected."""
        self.count_frame()
        check_size(frame.width, frame.height, self.limits)
        self._follow_turn(frame)
        pts, duration = self._time(frame)
        self.end_pts = self._expected_pts
        if not self.window.takes_frame(pts * self.time_base):
            return None
        self._check_length(pts, duration)
        self.moved += frame.pts not in (None, pts)
        if self.window.rate is not None:
            duration = None  # the frames after it, left out, belong to it
        return self._draw(frame, pts, duration)

    def _time(self, frame: Any) -> tuple[int, int | None]:
        duration = frame.duration if 0 < frame.duration < MAX_TICKS else None
        usual = round(1 / (self.average_rate or _GUESSED_FRAME_RATE) / self.time_base)
        if duration == self._untrue_duration:
            duration = None
        pts = self._expected_pts if frame.pts is None else frame.pts
        pts = max(pts, self._last_pts + 1)
        if abs(pts) >= MAX_TICKS:
            raise UndecodableVideo("The video's timestamps make no sense.")
        self._last_pts, self._expected_pts = pts, pts + max(duration or usual, 1)
        return pts, duration

    def _check_length(self, pts: int, duration: int | None) -> None:
        if self._first_pts is None:
            self._first_pts = pts
        elapsed_s = float((pts + (duration or 0) - self._first_pts) * self.time_base)
        if elapsed_s > self.limits.max_duration_s:
            raise VideoLimitExceeded("seconds", self.limits.max_duration_s, round(elapsed_s, 3))

    def _follow_turn(self, frame: Any) -> None:
        """Turn this frame as it says; where it says nothing, as those before."""
        if self._codec in _EACH_BY_ITSELF or states_turn(frame):
            self._turn = Orientation.of(frame)

    def _draw(self, frame: Any, pts: int, duration: int | None) -> VideoFrame:
        turn, canvas = self._turn, self.orientation.turn_size(self._coded_size)
        coded = frame.width, frame.height
        crop = self._crop if self._crop is not None and self._crop.coded == coded else None
        width, height = coded if crop is None else crop.size
        box = fit_box(turn.turn_size((width * self._measure_stretch(frame.pts), height)), canvas)
        self.resized += (width, height) != self._coded_size
        self.fitted += box is not None
        self._follow_colour(frame)
        if box is None and coded == self._coded_size and turn == Orientation():
            planes = self.pixels.read_planes(frame)
            if planes is not None:
                return VideoFrame(pts, duration, planes)
        inner = turn.turn_size(canvas if box is None else (box.width, box.height))
        alpha = _cut(self.pixels.read_alpha(frame, *(coded if crop else inner)), crop, inner)
        image = _cut(self.pixels.read_rgb(frame, *(coded if crop else inner)), crop, inner)
        if alpha is not None:
            image[alpha == 0] = 255
            alpha = turn.apply(alpha)
        image = turn.apply(image)
        if box is None:
            return VideoFrame(pts, duration, image, alpha)
        alpha = None if alpha is None else _pad(alpha, box, canvas)
        return VideoFrame(pts, duration, _pad(image, box, canvas), alpha, box)

    def _choose_codes(self, frame: Any) -> ColourCodes:
        return self._container_codes.choose(frame, self._codec, self._coded_size[1])

    def _make_pixel_reader(self, frame: Any, codes: ColourCodes) -> PixelReader:
        pixels = PixelReader(codes, read_peak_nits(frame), self._codec)
        if pixels.hdr is not None and not self._tone_maps:
            raise UndecodableVideo(
                f"The video is HDR ({pixels.hdr}), and only SDR was to be taken; leave out "
                "hdr=refuse to have it tone-mapped."
            )
        return pixels

    def _follow_colour(self, frame: Any) -> None:
        """Read this frame and those after it as it says, where clips of two kinds were joined."""
        codes = self._choose_codes(frame)
        if codes != self.pixels.codes:
            self.pixels = self._make_pixel_reader(frame, codes)
            self.colour_changes += 1


def read_peak_nits(frame: Any) -> float | None:
    """Return the brightest light that a frame's metadata promises, None where it says nothing.

    CTA-861.3 content light level, else the mastering display's (SMPTE ST 2086).
    """
    kinds = {data.type: data for data in frame.side_data}
    if (level := kinds.get(SideDataType.CONTENT_LIGHT_LEVEL)) is not None:
        (most, _) = struct.unpack("=II", bytes(level)[:8])
        if most:
            return float(most)
    if (display := kinds.get(SideDataType.MASTERING_DISPLAY_METADATA)) is not None:
        # Of FFmpeg's AVMasteringDisplayMetadata: after ten ratios the highest luminance, two flags.
        numerator, denominator, _, is_stated = struct.unpack_from("=iiii", bytes(display), 72)
        if is_stated and numerator > 0 and denominator > 0:
            return float(numerator / denominator)
    return None


def fit_box(size: tuple[int | Fraction, int | Fraction], canvas: tuple[int, int]) -> Box | None:
    """Return where a picture of another shape lies in a canvas, centred; None where it fills it.

    Both are width and height.
    """
    ratio = float(size[0] * canvas[1] / (size[1] * canvas[0]))
    if 1 / _SAME_SHAPE <= ratio <= _SAME_SHAPE:
        return None
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    width, height = (
        min(max(round(side * scale), 1), most) for side, most in zip(size, canvas, strict=True)
    )
    return Box((canvas[0] - width) // 2, (canvas[1] - height) // 2, width, height)


@overload
def _cut(image: Image, crop: Crop | None, size: tuple[int, int]) -> Image: ...
@overload
def _cut(image: Image | None, crop: Crop | None, size: tuple[int, int]) -> Image | None: ...
def _cut(image: Image | None, crop: Crop | None, size: tuple[int, int]) -> Image | None:
    """Return what of a picture is shown, as width and height say; all where nothing is cut off."""
    if image is None or crop is None:
        return image
    shown = image[crop.top : crop.bottom, crop.left : crop.right]
    if crop.size != size:
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(shown)


def _pad(image: Image, box: Box, canvas: tuple[int, int]) -> Image:
    right, below = canvas[0] - box.left - box.width, canvas[1] - box.top - box.height
    border = cv2.BORDER_CONSTANT
    padded = cv2.copyMakeBorder(image, box.top, below, box.left, right, border, value=(0, 0, 0))
    return np.asarray(padded, np.uint8)


def check_size(width: int, height: int, limits: VideoLimits) -> None:
    if max(width, height) > limits.max_side:
        raise VideoLimitExceeded("side", limits.max_side, max(width, height))
    megapixels = width * height / 1e6
    if megapixels > limits.max_frame_megapixels:
        raise VideoLimitExceeded("megapixels", limits.max_frame_megapixels, megapixels)
