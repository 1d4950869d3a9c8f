"""What travels between the reader of a clip, the service and the writer of the result."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from service.media.wire_fields import (
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
MAX_AUDIO_TRACKS = 16
MAX_AUDIO_PACKET_BYTES = 4 << 20
# Sound that MP4 carries as it is: the least and most bytes of its codec header.
COPYABLE_AUDIO = {
    "aac": (2, 64),
    "mp3": (0, 0),
    "opus": (19, 276),
    "ac3": (0, 0),
    "eac3": (0, 0),
    "alac": (36, 64),
    "flac": (34, 34),
}
AUDIO_LAYOUTS = frozenset(
    "mono stereo 2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0 "
    "6.0(front) 6.1 6.1(back) 6.1(front) 7.0 7.0(front) 7.1 7.1(wide) 7.1(wide-side)".split()
)


class UndecodableVideo(Exception):
    """The clip cannot be decoded; `reason` is a sentence for the person who sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
class AudioTrack:
    """One track of encoded sound, with all that a muxer must know to carry its packets.

    `index` counts the kept tracks from 0. `extradata` is the codec's own header. `reencoded_from`
    names the codec of the upload when MP4 cannot carry it; None: packets are the upload's bytes.
    """

    index: int
    codec: str
    sample_rate: int
    layout: str
    time_base: Fraction
    extradata: bytes
    language: str = ""
    reencoded_from: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the track as a dictionary that JSON can hold."""
        extradata = base64.b64encode(self.extradata).decode()
        return vars(self) | {"time_base": to_pair(self.time_base), "extradata": extradata}

    @classmethod
    def from_wire(cls, header: Header) -> "AudioTrack":
        """Rebuild a track; raises ValueError for what no honest reader sends."""
        if not isinstance(header, Mapping):
            raise ValueError("a sound track is not an object")
        codec = read_text(header, "codec", r"[a-z0-9]{1,8}")
        layout = read_text(header, "layout", r"[0-9a-z.()-]{1,16}")
        if codec not in COPYABLE_AUDIO or layout not in AUDIO_LAYOUTS:
            raise ValueError("a sound track of an unknown kind")
        try:
            extradata = base64.b64decode(read_text(header, "extradata", r"[A-Za-z0-9+/=]{0,512}"))
        except binascii.Error as error:
            raise ValueError("extradata is not base64") from error
        least, most = COPYABLE_AUDIO[codec]
        if not least <= len(extradata) <= most:
            raise ValueError("extradata has a wrong size")
        return cls(
            index=read_integer(header, "index", 0, MAX_AUDIO_TRACKS - 1),
            codec=codec,
            sample_rate=read_integer(header, "sample_rate", 4000, 768_000),
            layout=layout,
            time_base=read_ratio(header, "time_base"),
            extradata=extradata,
            language=read_text(header, "language", r"[a-z]{0,3}"),
            reencoded_from=read_optional(header, "reencoded_from", read_name),
        )


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is, as its frames come out of the reader.

    `width`, `height`: the upright frame in pixels; `rotation_deg`: the clockwise turn (0, 90, 180,
    270) that made it upright, after a left-right flip when `mirrored`. Times count in `time_base`
    seconds; a written file calls `origin_pts` zero (see VideoWriter). Colour numbers are those of
    ITU-T H.273 (2: not stated); `colorspace` is the matrix used, never 2, and 0 for RGB codecs.
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
            raise ValueError("sound tracks are not numbered from 0")
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


@dataclass(frozen=True)
class AudioPacket:
    """Encoded sound of one track; times in ticks of the track's time base."""

    track: int
    pts: int
    dts: int
    duration: int
    is_keyframe: bool
    data: bytes

    def to_wire(self) -> tuple[dict[str, Any], bytes]:
        """Return a header that JSON can hold (kind `audio`) and the encoded bytes."""
        header = {"kind": "audio", **vars(self)}
        return header, header.pop("data")

    @classmethod
    def from_wire(cls, header: Header, payload: Payload) -> "AudioPacket":
        """Rebuild a packet; raises ValueError for what no honest reader sends."""
        if not 1 <= memoryview(payload).nbytes <= MAX_AUDIO_PACKET_BYTES:
            raise ValueError("a sound packet has a wrong size")
        return cls(
            track=read_integer(header, "track", 0, MAX_AUDIO_TRACKS - 1),
            pts=read_integer(header, "pts", -MAX_TICKS, MAX_TICKS),
            dts=read_integer(header, "dts", -MAX_TICKS, MAX_TICKS),
            duration=read_ticks(header, "duration"),
            is_keyframe=read_flag(header, "is_keyframe"),
            data=bytes(payload),
        )


VideoItem = VideoInfo | VideoFrame | AudioPacket
