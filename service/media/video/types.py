"""Facts and frames of a clip, between its reader, the service and the writers."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Interval, MaxLen, Predicate

from service.media.audio.types import MAX_AUDIO_TRACKS, AudioPacket, AudioTrack, Container
from service.media.wire.fields import STRICT, Duration, Name, Ratio, Seconds, Time, to_header

Image = npt.NDArray[np.uint8]

MAX_SIDE = 16384
Side = Annotated[int, Interval(ge=1, le=MAX_SIDE)]
CodePoint = Annotated[int, Interval(ge=0, le=255)]  # of ITU-T H.273


class UndecodableVideo(Exception):
    """The clip cannot be decoded; `reason` is a sentence for the person who sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EmptySelection(Exception):
    """The clip has no frame in the part that was asked for."""


class VideoLimitExceeded(Exception):
    """The clip is larger than allowed; `what` is one of frames, seconds, megapixels, side."""

    def __init__(self, what: str, limit: float, actual: float) -> None:
        found = f"a side of {actual:g} pixels" if what == "side" else f"{actual:g} {what}"
        super().__init__(f"The video has {found}; the limit is {limit:g}.")
        self.what = what
        self.limit = limit
        self.actual = actual


@dataclass(frozen=True)
class VideoLimits:
    """How much of a clip is decoded: frames, seconds, 10^6 pixels a frame, pixels a side."""

    max_frames: int
    max_duration_s: float
    max_frame_megapixels: float
    max_side: int


@dataclass(frozen=True)
class ClipSelection:
    """What is read of a clip.

    Frames shown from `start_s` on and before `end_s` (None: to the end), as a player counts the
    seconds; at most `max_fps` of them in a second, those between are left out. `audio`: the
    containers that results will have, each track comes in codecs that they carry; none: no audio.
    """

    audio: tuple[Container, ...] = ("mp4",)
    start_s: float = 0.0
    end_s: float | None = None
    max_fps: float | None = None


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is, as its frames come out of the reader.

    `width`, `height`: the upright frame in pixels; `rotation_deg`: the clockwise turn (0, 90, 180,
    270) that made it upright, after a left-right flip when `mirrored`. Times count in `time_base`
    seconds; a written file calls `origin_pts` zero (see VideoWriter). Colour numbers are those of
    ITU-T H.273 (2: not stated); `colorspace` is the matrix used, never 2, and 0 for RGB codecs.
    `pixel_format` is FFmpeg's name of the coded pictures', `bit_depth` bits a channel (frames have
    8 all the same), `interlaced` says that two moments share a picture, as they do in the frames.
    `frames_estimate` and `duration_s` are claims of the file, for progress only.
    """

    width: Side
    height: Side
    rotation_deg: Annotated[int, Predicate((0, 90, 180, 270).__contains__)]
    mirrored: bool
    time_base: Ratio
    average_rate: Ratio | None
    sample_aspect_ratio: Ratio
    container: Name
    codec: Name
    color_range: Annotated[int, Interval(ge=0, le=2)]
    color_primaries: CodePoint
    color_trc: CodePoint
    colorspace: CodePoint
    frames_estimate: Duration | None
    duration_s: Seconds | None
    origin_pts: Time
    audio: Annotated[tuple[AudioTrack, ...], MaxLen(MAX_AUDIO_TRACKS)]
    pixel_format: Name = "yuv420p"
    bit_depth: Annotated[int, Interval(ge=1, le=32)] = 8
    interlaced: bool = False

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    def __post_init__(self) -> None:
        """Raise ValueError for tracks that are not numbered from 0."""
        if [track.index for track in self.audio] != list(range(len(self.audio))):
            raise ValueError("audio tracks are not numbered from 0")

    def to_wire(self) -> dict[str, Any]:
        """Return the facts as a dictionary that JSON can hold; its kind is `info`."""
        return {"kind": "info", **to_header(self)}


@dataclass(frozen=True)
class FrameHeader:
    """What is said of a picture: its times in ticks, its size in pixels."""

    pts: Time
    duration: Duration | None
    height: Side
    width: Side

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One upright picture: (H, W, 3) uint8 RGB, shown from `pts` for `duration` (ticks or None)."""

    pts: int
    duration: int | None
    image: Image

    def to_wire(self) -> tuple[dict[str, Any], memoryview]:
        """Return a header that JSON can hold (kind `frame`) and the pixels."""
        height, width = self.image.shape[:2]
        header = {"kind": "frame", "pts": self.pts, "duration": self.duration}
        header |= {"height": height, "width": width}
        return header, np.ascontiguousarray(self.image).reshape(-1).data


VideoItem = VideoInfo | VideoFrame | AudioPacket
