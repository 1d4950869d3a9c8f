"""What travels between the reader of a clip, the service and the writer of the result."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from service.media.audio.types import MAX_AUDIO_TRACKS, AudioPacket, AudioTrack, Container
from service.media.image.types import Picture
from service.media.video.labels import ClipLabels
from service.media.video.repairs import Repairs
from service.media.wire.fields import (
    MAX_TICKS,
    Header,
    read_flag,
    read_integer,
    read_name,
    read_optional,
    read_ratio,
    read_seconds,
    read_text,
    read_ticks,
    to_pair,
)

Image = npt.NDArray[np.uint8]
Payload = bytes | bytearray | memoryview

MAX_SIDE = 16384


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
    `deinterlaces`: pictures of two moments become pictures of one. `tone_maps`: HDR is read as
    SDR; else it is refused. `keeps_metadata`: title, date and place come along.
    """

    audio: tuple[Container, ...] = ("mp4",)
    start_s: float = 0.0
    end_s: float | None = None
    max_fps: float | None = None
    deinterlaces: bool = True
    tone_maps: bool = True
    keeps_metadata: bool = False


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

    width: int
    height: int
    rotation_deg: int
    mirrored: bool
    time_base: Fraction
    average_rate: Fraction | None
    sample_aspect_ratio: Fraction
    container: str
    codec: str
    color_range: int
    color_primaries: int
    color_trc: int
    colorspace: int
    frames_estimate: int | None
    duration_s: float | None
    origin_pts: int
    audio: tuple[AudioTrack, ...]
    pixel_format: str = "yuv420p"
    bit_depth: int = 8
    interlaced: bool = False
    deinterlaced: bool = False
    top_field_first: bool = True
    tone_mapped_from: str | None = None
    gamut_converted_from: str | None = None
    has_alpha: bool = False
    labels: ClipLabels = ClipLabels()

    def to_wire(self) -> dict[str, Any]:
        """Return the facts as a dictionary that JSON can hold; its kind is `info`."""
        header = {"kind": "info", **vars(self)}
        for name in ("time_base", "average_rate", "sample_aspect_ratio"):
            header[name] = to_pair(header[name])
        header["labels"] = self.labels.to_wire()
        header["audio"] = [track.to_wire() for track in self.audio]
        return header

    @classmethod
    def from_wire(cls, header: Header) -> "VideoInfo":
        """Rebuild the facts; raises ValueError for what no honest reader sends."""
        tracks = header.get("audio")
        if not isinstance(tracks, list) or len(tracks) > MAX_AUDIO_TRACKS:
            raise ValueError("audio is not a short list")
        audio = tuple(AudioTrack.from_wire(track) for track in tracks)
        if [track.index for track in audio] != list(range(len(audio))):
            raise ValueError("audio tracks are not numbered from 0")
        if header.get("rotation_deg") not in (0, 90, 180, 270):
            raise ValueError("rotation_deg is not a right angle")
        return cls(
            width=read_integer(header, "width", 1, MAX_SIDE),
            height=read_integer(header, "height", 1, MAX_SIDE),
            rotation_deg=read_integer(header, "rotation_deg", 0, 270),
            mirrored=read_flag(header, "mirrored"),
            time_base=read_ratio(header, "time_base"),
            average_rate=read_optional(header, "average_rate", read_ratio),
            sample_aspect_ratio=read_ratio(header, "sample_aspect_ratio"),
            container=read_name(header, "container"),
            codec=read_name(header, "codec"),
            color_range=read_integer(header, "color_range", 0, 2),
            color_primaries=read_integer(header, "color_primaries", 0, 255),
            color_trc=read_integer(header, "color_trc", 0, 255),
            colorspace=read_integer(header, "colorspace", 0, 255),
            frames_estimate=read_optional(header, "frames_estimate", read_ticks),
            duration_s=read_optional(header, "duration_s", read_seconds),
            origin_pts=read_integer(header, "origin_pts", -MAX_TICKS, MAX_TICKS),
            audio=audio,
            pixel_format=read_name(header, "pixel_format"),
            bit_depth=read_integer(header, "bit_depth", 1, 32),
            interlaced=read_flag(header, "interlaced"),
            deinterlaced=read_flag(header, "deinterlaced"),
            top_field_first=read_flag(header, "top_field_first"),
            tone_mapped_from=read_optional(header, "tone_mapped_from", _read_colour),
            gamut_converted_from=read_optional(header, "gamut_converted_from", _read_colour),
            has_alpha=read_flag(header, "has_alpha"),
            labels=ClipLabels.from_wire(header.get("labels", {})),
        )


def _read_colour(header: Header, name: str) -> str:
    return read_text(header, name, r"[A-Za-z0-9 .-]{1,64}")


@dataclass(frozen=True)
class Box:
    """Where a picture lies in its frame, pixels from the left and the top."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One upright picture: (H, W, 3) uint8 RGB, shown from `pts` for `duration` (ticks or None).

    Colours are straight. `alpha` is the clip's own, (H, W) uint8, None where it is opaque. `box`:
    where the picture lies, black around it; None: everywhere.
    """

    pts: int
    duration: int | None
    image: Image
    alpha: Image | None = None
    box: Box | None = None

    @cached_property
    def flat(self) -> Image:
        """The picture over white, (H, W, 3) uint8: what a viewer without alpha shows."""
        return Picture(self.image, self.alpha).flat

    def to_wire(self) -> tuple[dict[str, Any], memoryview]:
        """Return a header that JSON can hold (kind `frame`) and the pixels."""
        height, width = self.image.shape[:2]
        header = {"kind": "frame", "pts": self.pts, "duration": self.duration}
        header |= {"height": height, "width": width, "alpha": self.alpha is not None}
        header["box"] = None if self.box is None else list(vars(self.box).values())
        pixels = np.ascontiguousarray(self.image).reshape(-1)
        if self.alpha is not None:
            pixels = np.concatenate([pixels, self.alpha.reshape(-1)])
        return header, pixels.data

    @classmethod
    def from_wire(cls, header: Header, payload: Payload) -> "VideoFrame":
        """Rebuild a frame on the payload's memory; raises ValueError unless sizes agree."""
        height = read_integer(header, "height", 1, MAX_SIDE)
        width = read_integer(header, "width", 1, MAX_SIDE)
        channels = 4 if read_flag(header, "alpha") else 3
        if memoryview(payload).nbytes != height * width * channels:
            raise ValueError("the pixels do not fill the frame")
        pixels = np.frombuffer(payload, np.uint8)
        colours = height * width * 3
        return cls(
            pts=read_integer(header, "pts", -MAX_TICKS, MAX_TICKS),
            duration=read_optional(header, "duration", read_ticks),
            image=pixels[:colours].reshape(height, width, 3),
            alpha=pixels[colours:].reshape(height, width) if channels == 4 else None,
            box=_read_box(header, height, width),
        )


def _read_box(header: Header, height: int, width: int) -> Box | None:
    sides = header.get("box")
    if sides is None:
        return None
    if not isinstance(sides, list) or [type(side) for side in sides] != [int] * 4:
        raise ValueError("box is not four numbers")
    box = Box(*sides)
    if min(box.left, box.top) < 0 or min(box.width, box.height) < 1:
        raise ValueError("box has no pixels")
    if box.left + box.width > width or box.top + box.height > height:
        raise ValueError("box lies outside of the frame")
    return box


VideoItem = VideoInfo | VideoFrame | AudioPacket | Repairs
