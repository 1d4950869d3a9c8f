"""Encoded audio tracks and packets."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval, MaxLen, Predicate

from service.media.wire.fields import STRICT, Duration, Name, Ratio, Text, Time, matches

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


TrackIndex = Annotated[int, Interval(ge=0, lt=MAX_AUDIO_TRACKS)]


@dataclass(frozen=True)
class TrackLabels:
    """What people see of a track where they choose one: ISO 639-2 language, title, flags."""

    language: Annotated[str, Predicate(matches("[a-z]{0,3}"))] = ""
    title: Text = ""
    is_default: bool = False
    is_comment: bool = False

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True)
class AudioTrack:
    """One track of encoded audio, with all that a muxer must know to carry its packets.

    `index` counts the tracks from 0, `containers` names the kinds of result that it is for: one
    stream of a clip gives several tracks where results need it in several codecs. `extradata` is
    the codec's own header. `reencoded_from` names the codec of the upload where the containers
    cannot carry it; None: packets are the upload's bytes. `mixed_from` is the layout of the upload
    where it had more channels.
    """

    index: TrackIndex
    codec: Annotated[str, Predicate(COPYABLE_AUDIO.__contains__)]
    sample_rate: Annotated[int, Interval(ge=4000, le=768_000)]
    layout: Annotated[str, Predicate(AUDIO_LAYOUTS.__contains__)]
    time_base: Ratio
    extradata: bytes
    labels: TrackLabels = TrackLabels()
    reencoded_from: Name | None = None
    mixed_from: Text | None = None
    containers: Annotated[tuple[Container, ...], MaxLen(len(CARRIED_AUDIO))] = ("mp4",)

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True)
class AudioHeader:
    """What is said of a packet; times in ticks of the track's time base."""

    track: TrackIndex
    pts: Time
    dts: Time
    duration: Duration
    is_keyframe: bool

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True)
class AudioPacket(AudioHeader):
    """Encoded audio of one track."""

    data: bytes

    def to_wire(self) -> tuple[dict[str, Any], bytes]:
        """Return a header that JSON can hold (kind `audio`) and the encoded bytes."""
        header = {"kind": "audio", **vars(self)}
        return header, header.pop("data")
