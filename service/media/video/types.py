"""Facts and frames of a clip, between its reader, the service and the writers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Interval, MaxLen, Predicate

from service.media.audio.types import MAX_AUDIO_TRACKS, AudioPacket, AudioTrack, Container
from service.media.colour.planes import SWS_MATRIX, YuvPicture
from service.media.image.types import Picture
from service.media.video.labels import ClipLabels
from service.media.video.repairs import Repairs
from service.media.wire.fields import STRICT, Duration, Name, Ratio, Seconds, Text, Time, to_header

Image = npt.NDArray[np.uint8]

MAX_SIDE = 16384
Side = Annotated[int, Interval(ge=1, le=MAX_SIDE)]
Deinterlace = Literal["auto", "always", "off"]
CodePoint = Annotated[int, Interval(ge=0, le=255)]  # of ITU-T H.273


class UndecodableVideo(Exception):
    """The clip cannot be decoded; `reason` is a sentence for the person who sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnsupportedVideo(UndecodableVideo):
    """The file is of a kind that is not read as a clip; `reason` names it and what to do."""


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
    `deinterlace`: pictures of two moments become pictures of one where the clip says that it has
    them (`auto`), `always` or never (`off`). `tone_maps`: HDR is read as
    SDR; else it is refused. `keeps_metadata`: title, date and place come along.
    `after_s`: frames up to this time of the clip's own clock are left out.
    """

    audio: tuple[Container, ...] = ("mp4",)
    start_s: float = 0.0
    end_s: float | None = None
    max_fps: float | None = None
    deinterlace: Deinterlace = "auto"
    tone_maps: bool = True
    keeps_metadata: bool = False
    after_s: float | None = None


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is, as its frames come out of the reader.

    `width`, `height`: the upright frame in pixels; `rotation_deg`: the clockwise turn (0, 90, 180,
    270) that made it upright, after a left-right flip when `mirrored`. Times count in `time_base`
    seconds; a written file calls `origin_pts` zero (see VideoWriter). Colour numbers are those of
    ITU-T H.273 (2: not stated); `colorspace` is the matrix used, never 2, and 0 for RGB codecs.
    `pixel_format` is FFmpeg's name of the coded pictures', `bit_depth` bits a channel (frames have
    8 all the same), `interlaced` says that two moments share a picture of the clip, and
    `deinterlaced` that they do not in the frames; `top_field_first` is their order.
    `tone_mapped_from` names the colour of an HDR clip, `gamut_converted_from` that of a wide one;
    frames of both are BT.709. `has_alpha`: frames may have alpha. `frames_estimate` and
    `duration_s` are claims of the file about what is selected, for progress only.
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
    deinterlaced: bool = False
    top_field_first: bool = True
    tone_mapped_from: Text | None = None
    gamut_converted_from: Text | None = None
    has_alpha: bool = False
    labels: ClipLabels = ClipLabels()

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    def to_wire(self) -> dict[str, Any]:
        """Return the facts as a dictionary that JSON can hold; its kind is `info`."""
        return {"kind": "info", **to_header(self)}

    def describe_changes(self) -> dict[str, Any]:
        """Return what became of the pictures on the way, for JSON; only what there is to tell."""
        changes = {
            "converted_from_bits": self.bit_depth if self.bit_depth > 8 else None,
            "interlaced": self.interlaced and not self.deinterlaced,
            "deinterlaced": self.deinterlaced,
            "tone_mapped_from": self.tone_mapped_from,
            "gamut_converted_from": self.gamut_converted_from,
        }
        return {name: value for name, value in changes.items() if value}


@dataclass(frozen=True)
class Box:
    """Where a picture lies in its frame, pixels from the left and the top."""

    left: Annotated[int, Interval(ge=0, le=MAX_SIDE)]
    top: Annotated[int, Interval(ge=0, le=MAX_SIDE)]
    width: Side
    height: Side

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True)
class FrameHeader:
    """What is said of a picture: its times in ticks, its size in pixels.

    `matrix`: of a picture in planes, None for RGB.
    """

    pts: Time
    duration: Duration | None
    height: Side
    width: Side
    alpha: bool
    box: Box | None
    matrix: Annotated[int, Predicate(SWS_MATRIX.__contains__)] | None

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One upright picture, shown from `pts` for `duration` (ticks or None).

    `picture` is (H, W, 3) uint8 RGB, colours straight, or planes as they were coded. `alpha` is the
    clip's own, (H, W) uint8, None where it is opaque. `box`: where the picture lies, black around
    it; None: everywhere.
    """

    pts: int
    duration: int | None
    picture: Image | YuvPicture
    alpha: Image | None = None
    box: Box | None = None

    @property
    def image(self) -> Image:
        """(H, W, 3) uint8 RGB; of planes it is made when it is first asked for."""
        return self.picture.rgb if isinstance(self.picture, YuvPicture) else self.picture

    @property
    def planes(self) -> YuvPicture | None:
        """The picture as it was coded, None where it came as RGB."""
        return self.picture if isinstance(self.picture, YuvPicture) else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if isinstance(self.picture, YuvPicture):
            return self.picture.size
        return self.picture.shape[0], self.picture.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes of the picture as it came."""
        picture = self.picture
        return picture.planes.nbytes if isinstance(picture, YuvPicture) else picture.nbytes

    @cached_property
    def flat(self) -> Image:
        """The picture over white, (H, W, 3) uint8: what a viewer without alpha shows."""
        return Picture(self.image, self.alpha).flat

    def to_wire(self) -> tuple[dict[str, Any], memoryview]:
        """Return a header that JSON can hold (kind `frame`) and the pixels."""
        has_alpha, planes = self.alpha is not None, self.planes
        matrix = None if planes is None else planes.matrix
        header = FrameHeader(self.pts, self.duration, *self.size, has_alpha, self.box, matrix)
        samples = self.image if planes is None else planes.planes
        pixels = np.ascontiguousarray(samples).reshape(-1)
        if self.alpha is not None:
            pixels = np.concatenate([pixels, self.alpha.reshape(-1)])
        return {"kind": "frame", **to_header(header)}, pixels.data


VideoItem = VideoInfo | VideoFrame | AudioPacket | Repairs
