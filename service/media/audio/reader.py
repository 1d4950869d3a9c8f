"""Demux the audio of a clip (decoder child): copied where containers allow, else re-encoded."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import av

from service.media.audio.copied import AdtsTrack, CopiedTrack
from service.media.audio.encoder import (
    AAC_RATES,
    ENCODERS,
    AudioEncoder,
    decode_packet,
)
from service.media.audio.layouts import Layout, read_layout
from service.media.audio.types import (
    AUDIO_LAYOUTS,
    CARRIED_AUDIO,
    COPYABLE_AUDIO,
    MAX_AUDIO_STREAMS,
    AudioPacket,
    AudioTrack,
    Container,
    TrackLabels,
)
from service.media.wire.fields import clean_text

# ADTS audio states its parameters in its packets; a track that stays silent this long is dropped.
MAX_PEEKED_BYTES = 16 << 20
_MIN_MP3_RATE = 16000  # MP4 has no place for the slower ones


class TrackReader(Protocol):
    """Turns the demuxed packets of one audio stream into packets for the writers.

    `packets_lost` could not be decoded, `changes`: how often the audio's form changed.
    """

    tracks: tuple[AudioTrack, ...]
    packets_lost: int

    @property
    def changes(self) -> int: ...

    def push(self, packet: Any) -> list[AudioPacket]:
        """Take one packet of the stream and return those that are ready."""

    def flush(self) -> list[AudioPacket]:
        """Return what was held back, at the end of the stream."""


class ReencodedTracks:
    """Decodes audio once and encodes it for the containers that cannot carry it as it came."""

    def __init__(self, stream: Any, encoders: Sequence[AudioEncoder]) -> None:
        self._context = stream.codec_context
        self._encoders = encoders
        self.packets_lost = 0
        self.tracks = tuple(encoder.track for encoder in encoders)

    @property
    def changes(self) -> int:
        return max(encoder.changes for encoder in self._encoders)

    def push(self, packet: Any) -> list[AudioPacket]:
        frames = decode_packet(self, self._context, packet)
        return [item for frame in frames for item in self._encode(frame)]

    def flush(self) -> list[AudioPacket]:
        return self.push(None) + self._encode(None)

    def _encode(self, frame: Any) -> list[AudioPacket]:
        return [item for encoder in self._encoders for item in encoder.push(frame)]


def open_tracks(
    streams: Iterable[Any], packets: Iterator[Any], containers: Sequence[Container]
) -> tuple[dict[int, list[TrackReader]], list[Any]]:
    """Return the readers of each audio stream by its index in the file, and packets read ahead.

    Every container gets each stream, in a codec that it carries. Packets are read ahead only while
    an ADTS track has not shown its parameters yet; the caller takes them before the rest. Streams
    that no decoder knows are left out.
    """
    known = [stream for stream in streams if stream.codec_context is not None]
    known = known[:MAX_AUDIO_STREAMS]
    ahead, first = _read_ahead(packets, {s.index for s in known if _is_adts(s)})
    readers: dict[int, list[TrackReader]] = {}
    count = 0
    for stream in known:
        opened = _open_stream(stream, count, first.get(stream.index), containers)
        if opened:
            readers[stream.index] = opened
            count += sum(len(reader.tracks) for reader in opened)
    return readers, ahead


def _read_ahead(packets: Iterator[Any], wanted: set[int]) -> tuple[list[Any], dict[int, Any]]:
    ahead: list[Any] = []
    first: dict[int, Any] = {}
    peeked_bytes = 0
    while len(first) < len(wanted) and peeked_bytes < MAX_PEEKED_BYTES:
        packet = next(packets, None)
        if packet is None:
            break
        ahead.append(packet)
        peeked_bytes += packet.size + 256
        if packet.stream.index in wanted:
            first.setdefault(packet.stream.index, packet)
    return ahead, first


def _open_stream(
    stream: Any, index: int, first_packet: Any, containers: Sequence[Container]
) -> list[TrackReader]:
    """Return the readers of one stream, whose tracks count from `index`."""
    context = stream.codec_context
    layout = read_layout(context)
    copied: TrackReader | None = None
    if _is_adts(stream):
        if first_packet is None:
            return []
        try:
            copied = _open_adts(stream, layout, index, first_packet, containers)
        except av.ArgumentError:  # where another codec follows; there is no filter for that
            copied = None
        else:
            if copied is None:
                return []
    else:
        extradata = bytes(context.extradata or b"")
        codec = context.codec.canonical_name
        track = _describe(stream, layout, index, codec, extradata, containers)
        copied = CopiedTrack(stream, layout, track) if _is_copyable(track, layout) else None
    carrying = () if copied is None else copied.tracks[0].containers
    opened = [copied] if copied is not None and carrying else []
    others = [container for container in containers if container not in carrying]
    if others and context.sample_rate and layout.channels:
        # First, because the filter of an AdtsTrack uses a packet up.
        opened.insert(0, _open_encoders(stream, layout, index + len(opened), others))
    return opened


def _open_encoders(
    stream: Any, layout: Layout, index: int, containers: Sequence[Container]
) -> ReencodedTracks:
    context = stream.codec_context
    source, labels = context.codec.canonical_name, _read_labels(stream)
    encoders: list[AudioEncoder] = []
    for codec in ENCODERS:
        served = tuple(name for name in containers if _choose_codec(name) == codec)
        if served:
            at, rate = index + len(encoders), context.sample_rate
            encoders.append(AudioEncoder(source, layout, rate, at, codec, served, labels))
    return ReencodedTracks(stream, encoders)


def _choose_codec(container: Container) -> str:
    return "opus" if container == "webm" else "aac"


def _open_adts(
    stream: Any, layout: Layout, index: int, first_packet: Any, containers: Sequence[Container]
) -> TrackReader | None:
    """Read the parameters from a copy of the first packet, then filter from the start."""
    sample = av.Packet(bytes(first_packet))
    try:
        probe = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
        extradata = bytes(probe.filter(sample)[0].get_sidedata("new_extradata"))
    except (av.InvalidDataError, IndexError):
        return None
    track = _describe(stream, layout, index, "aac", extradata, containers)
    is_copyable = _is_copyable(track, layout)
    return AdtsTrack(stream, layout, track, first_packet) if is_copyable else None


def _describe(
    stream: Any,
    layout: Layout,
    index: int,
    codec: str,
    extradata: bytes,
    containers: Sequence[Container],
) -> AudioTrack:
    """Return the track of copied packets, for those containers that carry its codec."""
    return AudioTrack(
        index=index,
        codec=codec,
        sample_rate=stream.codec_context.sample_rate,
        layout=layout.name,
        time_base=stream.time_base,
        extradata=extradata if codec in ("aac", "opus", "alac", "flac") else b"",
        labels=_read_labels(stream),
        containers=tuple(name for name in containers if codec in CARRIED_AUDIO[name]),
    )


def _is_adts(stream: Any) -> bool:
    context = stream.codec_context
    return context.codec.canonical_name == "aac" and not context.extradata


def _is_copyable(track: AudioTrack, layout: Layout) -> bool:
    least, most = COPYABLE_AUDIO.get(track.codec, (1, 0))
    slowest = _MIN_MP3_RATE if track.codec == "mp3" else AAC_RATES[0]
    return (
        least <= len(track.extradata) <= most
        and track.layout in AUDIO_LAYOUTS
        and slowest <= track.sample_rate <= 192_000
    )


def _read_labels(stream: Any) -> TrackLabels:
    language = (stream.language or "").lower()
    is_code = len(language) == 3 and language.isascii() and language.isalpha()
    disposition = av.stream.Disposition
    return TrackLabels(
        language=language if is_code else "",
        title=clean_text(stream.metadata.get("title") or stream.metadata.get("name", "")),
        is_default=bool(stream.disposition & disposition.default),
        is_comment=bool(stream.disposition & disposition.comment),
    )
