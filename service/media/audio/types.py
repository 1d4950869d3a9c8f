"""Encoded audio as it travels between the reader of a clip, the service and the writers."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from service.media.wire.fields import (
    MAX_TICKS,
    Header,
    read_flag,
    read_free_text,
    read_integer,
    read_name,
    read_optional,
    read_ratio,
    read_text,
    read_ticks,
    to_pair,
)

Container = Literal["mp4", "mov", "webm"]

MAX_AUDIO_STREAMS = 16
# Each stream at most as it came, as AAC and as Opus.
MAX_AUDIO_TRACKS = 3 * MAX_AUDIO_STREAMS
MAX_AUDIO_PACKET_BYTES = 4 << 20
# Audio that MP4 carries as it is: the least and most bytes of its codec header.
COPYABLE_AUDIO = {
    "aac": (2, 64),
    "mp3": (0, 0),
    "opus": (19, 276),
    "ac3": (0, 0),
    "eac3": (0, 0),
    "alac": (36, 64),
    "flac": (34, 34),
}
CARRIED_AUDIO: dict[Container, frozenset[str]] = {
    "mp4": frozenset(COPYABLE_AUDIO),
    "mov": frozenset(("aac", "mp3", "ac3", "eac3", "alac")),
    "webm": frozenset(("opus",)),
}
AUDIO_LAYOUTS = frozenset(
    "mono stereo 2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0 "
    "6.0(front) 6.1 6.1(back) 6.1(front) 7.0 7.0(front) 7.1 7.1(wide) 7.1(wide-side)".split()
)


@dataclass(frozen=True)
class TrackLabels:
    """What people see of a track where they choose one: ISO 639-2 language, title, flags."""

    language: str = ""
    title: str = ""
    is_default: bool = False
    is_comment: bool = False

    @classmethod
    def from_wire(cls, header: Header) -> "TrackLabels":
        """Rebuild the labels; raises ValueError for what no honest reader sends."""
        if not isinstance(header, Mapping):
            raise ValueError("labels are not an object")
        return cls(
            language=read_text(header, "language", r"[a-z]{0,3}"),
            title=read_free_text(header, "title"),
            is_default=read_flag(header, "is_default"),
            is_comment=read_flag(header, "is_comment"),
        )


@dataclass(frozen=True)
class AudioTrack:
    """One track of encoded audio, with all that a muxer must know to carry its packets.

    `index` counts the tracks from 0, `containers` names the kinds of result that it is for: one
    stream of a clip gives several tracks where results need it in several codecs. `extradata` is
    the codec's own header. `reencoded_from` names the codec of the upload where the containers
    cannot carry it; None: packets are the upload's bytes. `mixed_from` is the layout of the upload
    where it had more channels.
    """

    index: int
    codec: str
    sample_rate: int
    layout: str
    time_base: Fraction
    extradata: bytes
    labels: TrackLabels = TrackLabels()
    reencoded_from: str | None = None
    mixed_from: str | None = None
    containers: tuple[Container, ...] = ("mp4",)

    def to_wire(self) -> dict[str, Any]:
        """Return the track as a dictionary that JSON can hold."""
        extradata = base64.b64encode(self.extradata).decode()
        return vars(self) | {
            "time_base": to_pair(self.time_base),
            "extradata": extradata,
            "labels": vars(self.labels),
            "containers": list(self.containers),
        }

    @classmethod
    def from_wire(cls, header: Header) -> "AudioTrack":
        """Rebuild a track; raises ValueError for what no honest reader sends."""
        if not isinstance(header, Mapping):
            raise ValueError("an audio track is not an object")
        codec = read_text(header, "codec", r"[a-z0-9]{1,8}")
        layout = read_text(header, "layout", r"[0-9a-z.()-]{1,16}")
        if codec not in COPYABLE_AUDIO or layout not in AUDIO_LAYOUTS:
            raise ValueError("an audio track of an unknown kind")
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
            labels=TrackLabels.from_wire(header.get("labels", {})),
            reencoded_from=read_optional(header, "reencoded_from", read_name),
            mixed_from=read_optional(header, "mixed_from", _read_layout_name),
            containers=_read_containers(header, codec),
        )


def _read_layout_name(header: Header, name: str) -> str:
    return read_text(header, name, r"[0-9a-zA-Z.()+ -]{1,129}")


def _read_containers(header: Header, codec: str) -> tuple[Container, ...]:
    given = header.get("containers")
    if not isinstance(given, list):
        raise ValueError("containers is not a list")
    known: tuple[Container, ...] = tuple(
        container for container in CARRIED_AUDIO if container in given
    )
    if len(known) != len(given) or any(codec not in CARRIED_AUDIO[name] for name in known):
        raise ValueError("an audio track for containers that do not carry it")
    return known


@dataclass(frozen=True)
class AudioPacket:
    """Encoded audio of one track; times in ticks of the track's time base."""

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
    def from_wire(cls, header: Header, payload: bytes | bytearray | memoryview) -> "AudioPacket":
        """Rebuild a packet; raises ValueError for what no honest reader sends."""
        if not 1 <= memoryview(payload).nbytes <= MAX_AUDIO_PACKET_BYTES:
            raise ValueError("an audio packet has a wrong size")
        return cls(
            track=read_integer(header, "track", 0, MAX_AUDIO_TRACKS - 1),
            pts=read_integer(header, "pts", -MAX_TICKS, MAX_TICKS),
            dts=read_integer(header, "dts", -MAX_TICKS, MAX_TICKS),
            duration=read_ticks(header, "duration"),
            is_keyframe=read_flag(header, "is_keyframe"),
            data=bytes(payload),
        )
