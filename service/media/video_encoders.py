"""How pictures of a result are coded and what carries them: a table of encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.video.reformatter import ColorRange

from service.media.audio_types import Container
from service.media.video_frames import yuv_matrix
from service.media.video_types import VideoInfo

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
_DEFAULT_FRAME_RATE = Fraction(30)
_UNSTATED, _BT709 = (0, 2), 1


@dataclass(frozen=True)
class Encoding:
    """An encoder with its options, for `channels` 3 (RGB) or 4 (straight RGBA), in a container.

    `ticks`: of the container's clock in a second, None where it takes the clip's own.
    """

    container: Container
    codec: str
    pixel_format: str
    options: Mapping[str, str]
    threads: str  # what its threads share: FRAME or SLICE
    channels: int = 3
    ticks: int | None = None


def h264(crf: int = 20, preset: str = "veryfast") -> Encoding:
    """Return the encoding of an MP4; `crf`: 0 (lossless) to 51, `preset`: one of PRESETS.

    Raises ValueError for values out of range.
    """
    if not 0 <= crf <= 51 or preset not in PRESETS:
        raise ValueError("crf is 0 to 51, preset a name of x264")
    options = {"crf": str(crf), "preset": preset, "rc-lookahead": str(PRESETS[preset])}
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
)
PRORES = Encoding(
    container="mov",
    codec="prores_ks",
    pixel_format="yuva444p10le",
    options={"profile": "4444", "alpha_bits": "16"},
    threads="SLICE",
    channels=4,
)


def add_video(
    file: Any, encoding: Encoding, info: VideoInfo, size: tuple[int, int], ticks: int, threads: int
) -> Any:
    """Add the stream of the pictures, (width, height), to a file of the library.

    Colour: the clip's matrix, primaries and transfer are kept and tagged (BT.709 where not stated,
    as browsers assume), in limited range.
    """
    rate = info.average_rate or _DEFAULT_FRAME_RATE
    stream = file.add_stream(encoding.codec, rate=rate, options=dict(encoding.options))
    stream.width, stream.height = size
    stream.pix_fmt = encoding.pixel_format
    stream.time_base = Fraction(1, ticks)
    if encoding.container == "webm":
        stream.metadata["alpha_mode"] = "1"
    context = stream.codec_context
    context.time_base = Fraction(1, ticks)
    context.thread_count = threads
    context.thread_type = encoding.threads
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.colorspace = yuv_matrix(info.colorspace, info.height)
    context.color_range = ColorRange.MPEG
    context.color_primaries = _stated(info.color_primaries)
    context.color_trc = _stated(info.color_trc)
    return stream


def _stated(number: int) -> int:
    return _BT709 if number in _UNSTATED else number
