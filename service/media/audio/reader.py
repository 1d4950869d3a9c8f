"""Demux the audio of a clip (decoder child): copied where containers allow, else re-encoded."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Protocol

import av

from service.media.audio.types import (
    AUDIO_LAYOUTS,
    CARRIED_AUDIO,
    COPYABLE_AUDIO,
    MAX_AUDIO_PACKET_BYTES,
    MAX_AUDIO_STREAMS,
    AudioPacket,
    AudioTrack,
    Container,
)
from service.media.wire.fields import MAX_TICKS

REENCODED_BIT_RATE = 128_000
# ADTS audio states its parameters in its packets; a track that stays silent this long is dropped.
MAX_PEEKED_BYTES = 16 << 20
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_MIN_MP3_RATE = 16000  # MP4 has no place for the slower ones
_GLOBAL_HEADER = 1 << 22
# What audio becomes that a container does not carry: encoder, sample format, rates.
_ENCODERS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "aac": ("aac", "fltp", _AAC_RATES),
    "opus": ("libopus", "flt", (48_000,)),
}


class TrackReader(Protocol):
    """Turns the demuxed packets of one audio stream into packets for the writers."""

    tracks: tuple[AudioTrack, ...]

    def push(self, packet: Any) -> list[AudioPacket]:
        """Take one packet of the stream and return those that are ready."""

    def flush(self) -> list[AudioPacket]:
        """Return what was held back, at the end of the stream."""


class CopiedTrack:
    """Hands the stream's packets on byte for byte."""

    def __init__(self, track: AudioTrack) -> None:
        self.tracks: tuple[AudioTrack, ...] = (track,)

    def push(self, packet: Any) -> list[AudioPacket]:
        return _to_items([packet], self.tracks[0].index)

    def flush(self) -> list[AudioPacket]:
        return []


class AdtsTrack:
    """Takes the ADTS headers off AAC packets (MPEG-TS); the coded audio stays as it is."""

    def __init__(self, track: AudioTrack, bit_filter: Any) -> None:
        self.tracks: tuple[AudioTrack, ...] = (track,)
        self._filter = bit_filter

    def push(self, packet: Any) -> list[AudioPacket]:
        try:
            return _to_items(self._filter.filter(packet), self.tracks[0].index)
        except av.InvalidDataError:  # a damaged packet is left out
            return []

    def flush(self) -> list[AudioPacket]:
        return _to_items(self._filter.filter(None), self.tracks[0].index)


class ReencodedTracks:
    """Decodes audio once and encodes it for the containers that cannot carry it as it came."""

    def __init__(self, stream: Any, encoders: Sequence["SoundEncoder"]) -> None:
        self._stream = stream
        self._encoders = encoders
        self.tracks = tuple(encoder.track for encoder in encoders)

    def push(self, packet: Any) -> list[AudioPacket]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):  # damaged
            return []
        return [item for encoder in self._encoders for item in encoder.push(frames)]

    def flush(self) -> list[AudioPacket]:
        rest = self.push(None)
        return rest + [item for encoder in self._encoders for item in encoder.flush()]


class SoundEncoder:
    """Encodes decoded audio as `codec`, mono or stereo, for `containers`."""

    def __init__(
        self, stream: Any, index: int, codec: str, containers: tuple[Container, ...]
    ) -> None:
        source = stream.codec_context
        name, sample_format, rates = _ENCODERS[codec]
        rate = min(rates, key=lambda known: abs(known - source.sample_rate))
        self._encoder = av.CodecContext.create(name, "w")
        self._encoder.sample_rate = rate
        self._encoder.layout = "mono" if source.layout.nb_channels == 1 else "stereo"
        self._encoder.format = sample_format
        self._encoder.bit_rate = REENCODED_BIT_RATE
        self._encoder.time_base = Fraction(1, rate)
        self._encoder.flags |= _GLOBAL_HEADER
        self._encoder.open()
        self.track = AudioTrack(
            index=index,
            codec=codec,
            sample_rate=rate,
            layout=self._encoder.layout.name,
            time_base=Fraction(1, rate),
            extradata=bytes(self._encoder.extradata or b""),
            language=_language(stream),
            reencoded_from=source.codec.canonical_name,
            containers=containers,
        )

    def push(self, frames: list[Any]) -> list[AudioPacket]:
        try:
            encoded = [out for frame in frames for out in self._encoder.encode(frame)]
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):  # the audio changes its form
            return []
        return _to_items(encoded, self.track.index)

    def flush(self) -> list[AudioPacket]:
        return _to_items(self._encoder.encode(None), self.track.index)


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
    copied: TrackReader | None = None
    if _is_adts(stream):
        if first_packet is not None:
            copied = _open_adts(stream, index, first_packet, containers)
        if copied is None:
            return []
    else:
        extradata = bytes(stream.codec_context.extradata or b"")
        codec = stream.codec_context.codec.canonical_name
        track = _describe(stream, index, codec, extradata, containers)
        copied = CopiedTrack(track) if _is_copyable(track) else None
    carrying = () if copied is None else copied.tracks[0].containers
    opened = [copied] if copied is not None and carrying else []
    others = [container for container in containers if container not in carrying]
    if others and stream.codec_context.sample_rate and stream.codec_context.layout.nb_channels:
        # First, because the filter of an AdtsTrack uses a packet up.
        opened.insert(0, _open_encoders(stream, index + len(opened), others))
    return opened


def _open_encoders(stream: Any, index: int, containers: Sequence[Container]) -> ReencodedTracks:
    encoders: list[SoundEncoder] = []
    for codec in _ENCODERS:
        served = tuple(name for name in containers if _choose_codec(name) == codec)
        if served:
            encoders.append(SoundEncoder(stream, index + len(encoders), codec, served))
    return ReencodedTracks(stream, encoders)


def _choose_codec(container: Container) -> str:
    return "opus" if container == "webm" else "aac"


def _open_adts(
    stream: Any, index: int, first_packet: Any, containers: Sequence[Container]
) -> TrackReader | None:
    """Read the parameters from a copy of the first packet, then filter from the start."""
    sample = av.Packet(bytes(first_packet))
    try:
        probe = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
        extradata = bytes(probe.filter(sample)[0].get_sidedata("new_extradata"))
    except (av.InvalidDataError, IndexError):
        return None
    track = _describe(stream, index, "aac", extradata, containers)
    bit_filter = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
    return AdtsTrack(track, bit_filter) if _is_copyable(track) else None


def _describe(
    stream: Any, index: int, codec: str, extradata: bytes, containers: Sequence[Container]
) -> AudioTrack:
    """Return the track of copied packets, for those containers that carry its codec."""
    return AudioTrack(
        index=index,
        codec=codec,
        sample_rate=stream.codec_context.sample_rate,
        layout=stream.codec_context.layout.name,
        time_base=stream.time_base,
        extradata=extradata if codec in ("aac", "opus", "alac", "flac") else b"",
        language=_language(stream),
        containers=tuple(name for name in containers if codec in CARRIED_AUDIO[name]),
    )


def _is_adts(stream: Any) -> bool:
    context = stream.codec_context
    return context.codec.canonical_name == "aac" and not context.extradata


def _is_copyable(track: AudioTrack) -> bool:
    least, most = COPYABLE_AUDIO.get(track.codec, (1, 0))
    slowest = _MIN_MP3_RATE if track.codec == "mp3" else _AAC_RATES[0]
    return (
        least <= len(track.extradata) <= most
        and track.layout in AUDIO_LAYOUTS
        and slowest <= track.sample_rate <= 192_000
    )


def _language(stream: Any) -> str:
    language = (stream.language or "").lower()
    return language if len(language) == 3 and language.isascii() and language.isalpha() else ""


def _to_items(packets: Iterable[Any], index: int) -> list[AudioPacket]:
    """Copy packets out of the library; those without bytes or a sane time are left out."""
    items = []
    for packet in packets:
        pts = packet.pts if packet.pts is not None else packet.dts
        dts = packet.dts if packet.dts is not None else pts
        if pts is None or max(abs(pts), abs(dts)) > MAX_TICKS:
            continue
        if not 0 < packet.size <= MAX_AUDIO_PACKET_BYTES:
            continue
        duration = min(max(packet.duration or 0, 0), MAX_TICKS)
        items.append(AudioPacket(index, pts, dts, duration, packet.is_keyframe, bytes(packet)))
    return items
