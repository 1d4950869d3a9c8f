"""What travels between the reader of a clip, the service and the writer of the result."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from service.media.audio.types import MAX_AUDIO_TRACKS, AudioPacket, AudioTrack, Container
from service.media.wire.fields import (
    MAX_TICKS,
    Header,
    read_flag,
    read_integer,
    read_name,
    read_optional,
    read_ratio,
    read_seconds,
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

    def to_wire(self) -> dict[str, Any]:
        """Return the facts as a dictionary that JSON can hold; its kind is `info`."""
        header = {"kind": "info", **vars(self)}
        for name in ("time_base", "average_rate", "sample_aspect_ratio"):
            header[name] = to_pair(header[name])
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
        )


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

    @classmethod
    def from_wire(cls, header: Header, payload: Payload) -> "VideoFrame":
        """Rebuild a frame on the payload's memory; raises ValueError unless sizes agree."""
        height = read_integer(header, "height", 1, MAX_SIDE)
        width = read_integer(header, "width", 1, MAX_SIDE)
        if memoryview(payload).nbytes != height * width * 3:
            raise ValueError("the pixels do not fill the frame")
        return cls(
            pts=read_integer(header, "pts", -MAX_TICKS, MAX_TICKS),
            duration=read_optional(header, "duration", read_ticks),
            image=np.frombuffer(payload, np.uint8).reshape(height, width, 3),
        )


VideoItem = VideoInfo | VideoFrame | AudioPacket
