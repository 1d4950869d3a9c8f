"""Table of video encoders and their containers."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
from av.codec.context import Flags
from av.video.reformatter import ColorRange

from service.media.audio.types import Container
from service.media.video.pixel_shape import choose_square_size
from service.media.video.pixels import yuv_matrix
from service.media.video.types import VideoInfo

# Frames that x264 looks ahead: the preset's own figure, cut where it would hold too many pictures.
PRESETS = {
    "ultrafast": 0,
    "superfast": 0,
    "veryfast": 10,
    "faster": 20,
    "fast": 20,
    "medium": 20,
    "slow": 20,
    "slower": 20,
    "veryslow": 20,
}
# With AVX-512 the look-ahead of x264 (core 165, its macroblock tree) reads memory that it has not
# written: the same pictures then give another file each time. Never set where the processor has
# less: x264 takes it at its word.
_OPENCV_AVX2, _OPENCV_AVX512 = 11, 13
STEADY = (
    "asm=avx2"
    if cv2.checkHardwareSupport(_OPENCV_AVX512) and cv2.checkHardwareSupport(_OPENCV_AVX2)
    else ""
)
_DEFAULT_FRAME_RATE = Fraction(30)
_UNSTATED, _BT709, _BT470BG, _SMPTE170M, _BT2020 = (0, 2), 1, 5, 6, 9


@dataclass(frozen=True)
class Encoding:
    """An encoder with its options, for `channels` 3 (RGB) or 4 (straight RGBA), in a container.

    `ticks`: of the container's clock in a second, None where it takes the clip's own.
    `has_square_pixels`: the library states no other shape in this container. `matrices`: of ITU-T
    H.273, those that it can state; None for all.
    """

    container: Container
    codec: str
    pixel_format: str
    options: Mapping[str, str]
    threads: str  # what its threads share: FRAME or SLICE
    channels: int = 3
    ticks: int | None = None
    has_square_pixels: bool = False
    matrices: tuple[int, ...] | None = None

    def choose_matrix(self, info: VideoInfo) -> int:
        """Return the H.273 number of the YUV matrix: the clip's, its twin, or BT.709's."""
        number = yuv_matrix(info.colorspace, info.height)
        if self.matrices is None or number in self.matrices:
            return number
        return _SMPTE170M if number == _BT470BG else _BT709

    def choose_size(self, info: VideoInfo) -> tuple[int, int]:
        """Return width and height that show the clip undistorted; nothing gets smaller."""
        return choose_square_size(info) if self.has_square_pixels else (info.width, info.height)


def h264(crf: int = 20, preset: str = "veryfast") -> Encoding:
    """Return the encoding of an MP4; `crf`: 0 (taken as 1) to 51, `preset`: one of PRESETS.

    Raises ValueError for values out of range.
    """
    if not 0 <= crf <= 51 or preset not in PRESETS:
        raise ValueError("crf is 0 to 51, preset a name of x264")
    # Below 1 x264 becomes lossless, in a profile that neither phones nor browsers play.
    options = {"crf": str(max(crf, 1)), "preset": preset}
    options["rc-lookahead"] = str(PRESETS[preset])
    return Encoding("mp4", "libx264", "yuv420p", options, "FRAME")


# Colour and alpha are two pictures coded alike. Alpha comes back within 4 of 255, in realtime mode
# within 10 for half of the time; lag and alternate references do not go with alpha.
VP9 = Encoding(
    container="webm",
    codec="libvpx-vp9",
    pixel_format="yuva420p",
    options={
        "auto-alt-ref": "0",
        "lag-in-frames": "0",
        "deadline": "good",
        "cpu-used": "5",
        "crf": "12",
        "b": "0",
        "row-mt": "1",
        "tile-columns": "2",
    },
    threads="SLICE",
    channels=4,
    ticks=1000,
    has_square_pixels=True,
)
PRORES = Encoding(
    container="mov",
    codec="prores_ks",
    pixel_format="yuva444p10le",
    options={"profile": "4444", "alpha_bits": "16"},
    threads="SLICE",
    channels=4,
    matrices=(_BT709, _SMPTE170M, _BT2020),
)


def add_video(
    file: Any, encoding: Encoding, info: VideoInfo, size: tuple[int, int], ticks: int, threads: int
) -> Any:
    """Add the stream of the pictures, (width, height), to a file of the library.

    Colour: the clip's matrix, primaries and transfer are kept and tagged (BT.709 where not stated,
    as browsers assume), in limited range. Fields that the pictures hold are coded as fields.
    """
    rate = info.average_rate or _DEFAULT_FRAME_RATE
    options = dict(encoding.options)
    has_fields = info.interlaced and not info.deinterlaced
    if encoding.codec == "libx264":
        fields = ("tff=1" if info.top_field_first else "bff=1") if has_fields else ""
        options["x264-params"] = ":".join(filter(None, (STEADY, fields)))
    stream = file.add_stream(encoding.codec, rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = encoding.pixel_format
    stream.time_base = Fraction(1, ticks)
    if encoding.container == "webm":
        stream.metadata["alpha_mode"] = "1"
    context = stream.codec_context
    context.time_base = Fraction(1, ticks)
    context.thread_count = threads
    context.thread_type = encoding.threads
    if has_fields:
        context.flags |= Flags.interlaced_dct
    if not encoding.has_square_pixels:
        context.sample_aspect_ratio = info.sample_aspect_ratio
    context.colorspace = encoding.choose_matrix(info)
    context.color_range = ColorRange.MPEG
    context.color_primaries = state_colour(info.color_primaries)
    context.color_trc = state_colour(info.color_trc)
    return stream


def state_colour(number: int) -> int:
    """Return the number of primaries or transfer that a result states for the clip's."""
    return _BT709 if number in _UNSTATED else number
