"""Sound of a clip, in the decoder child: packets that MP4 can carry, copied wherever possible."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Protocol

import av

from service.media.video_types import (
    AUDIO_LAYOUTS,
    COPYABLE_AUDIO,
    MAX_AUDIO_PACKET_BYTES,
    MAX_AUDIO_TRACKS,
    AudioPacket,
    AudioTrack,
)
from service.media.wire_fields import MAX_TICKS

REENCODED_BIT_RATE = 128_000
# ADTS sound states its parameters in its packets; a track that stays silent this long is dropped.
MAX_PEEKED_BYTES = 16 << 20
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_MIN_MP3_RATE = 16000  # MP4 has no place for the slower ones
_GLOBAL_HEADER = 1 << 22


class TrackReader(Protocol):
    """Turns the demuxed packets of one sound stream into packets for the writer."""

    track: AudioTrack

    def push(self, packet: Any) -> list[AudioPacket]:
        """Take one packet of the stream and return those that are ready."""

    def flush(self) -> list[AudioPacket]:
        """Return what was held back, at the end of the stream."""


class CopiedTrack:
    """Hands the stream's packets on byte for byte."""

    def __init__(self, stream: Any, track: AudioTrack) -> None:
        self.track = track

    def push(self, packet: Any) -> list[AudioPacket]:
        return _to_items([packet], self.track.index)

    def flush(self) -> list[AudioPacket]:
        return []


class AdtsTrack:
    """Takes the ADTS headers off AAC packets (MPEG-TS); the coded sound stays as it is."""

    def __init__(self, stream: Any, track: AudioTrack, bit_filter: Any) -> None:
        self.track = track
        self._filter = bit_filter

    def push(self, packet: Any) -> list[AudioPacket]:
        try:
            return _to_items(self._filter.filter(packet), self.track.index)
        except av.InvalidDataError:  # a damaged packet is left out
            return []

    def flush(self) -> list[AudioPacket]:
        return _to_items(self._filter.filter(None), self.track.index)


class ReencodedTrack:
    """Decodes sound that MP4 cannot carry and encodes it as AAC, mono or stereo."""

    def __init__(self, stream: Any, index: int, codec: str) -> None:
        self._stream = stream
        source = stream.codec_context
        rate = min(_AAC_RATES, key=lambda known: abs(known - source.sample_rate))
        self._encoder = av.CodecContext.create("aac", "w")
        self._encoder.sample_rate = rate
        self._encoder.layout = "mono" if source.layout.nb_channels == 1 else "stereo"
        self._encoder.format = "fltp"
        self._encoder.bit_rate = REENCODED_BIT_RATE
        self._encoder.time_base = Fraction(1, rate)
        self._encoder.flags |= _GLOBAL_HEADER
        self._encoder.open()
        self.track = AudioTrack(
            index=index,
            codec="aac",
            sample_rate=rate,
            layout=self._encoder.layout.name,
            time_base=Fraction(1, rate),
            extradata=bytes(self._encoder.extradata or b""),
            language=_language(stream),
            reencoded_from=codec,
        )

    def push(self, packet: Any) -> list[AudioPacket]:
        try:
            frames = self._stream.codec_context.decode(packet)
            encoded = [out for frame in frames for out in self._encoder.encode(frame)]
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):  # damaged, or the sound changes its form
            return []
        return _to_items(encoded, self.track.index)

    def flush(self) -> list[AudioPacket]:
        return self.push(None) + _to_items(self._encoder.encode(None), self.track.index)


def open_tracks(
    streams: Iterable[Any], packets: Iterator[Any]
) -> tuple[dict[int, TrackReader], list[Any]]:
    """Return a reader for each sound stream by its index in the container, and packets read ahead.

    Packets are read ahead only while an ADTS track has not shown its parameters yet; the caller
    takes them before the rest. Streams that no decoder knows are left out.
    """
    known = [stream for stream in streams if stream.codec_context is not None]
    known = known[:MAX_AUDIO_TRACKS]
    ahead, first = _read_ahead(packets, {s.index for s in known if _is_adts(s)})
    readers: dict[int, TrackReader] = {}
    for stream in known:
        reader = _open_track(stream, len(readers), first.get(stream.index))
        if reader is not None:
            readers[stream.index] = reader
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


def _open_track(stream: Any, index: int, first_packet: Any) -> TrackReader | None:
    codec = stream.codec_context.codec.canonical_name
    if _is_adts(stream):
        return None if first_packet is None else _open_adts(stream, index, first_packet)
    track = _describe(stream, index, codec, bytes(stream.codec_context.extradata or b""))
    if _is_copyable(track):
        return CopiedTrack(stream, track)
    if not stream.codec_context.sample_rate or not stream.codec_context.layout.nb_channels:
        return None
    return ReencodedTrack(stream, index, codec)


def _open_adts(stream: Any, index: int, first_packet: Any) -> TrackReader | None:
    """Read the parameters from a copy of the first packet, then filter from the start."""
    sample = av.Packet(bytes(first_packet))
    try:
        probe = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
        extradata = bytes(probe.filter(sample)[0].get_sidedata("new_extradata"))
    except (av.InvalidDataError, IndexError):
        return None
    track = _describe(stream, index, "aac", extradata)
    bit_filter = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
    return AdtsTrack(stream, track, bit_filter) if _is_copyable(track) else None


def _describe(stream: Any, index: int, codec: str, extradata: bytes) -> AudioTrack:
    return AudioTrack(
        index=index,
        codec=codec,
        sample_rate=stream.codec_context.sample_rate,
        layout=stream.codec_context.layout.name,
        time_base=stream.time_base,
        extradata=extradata if codec in ("aac", "opus", "alac", "flac") else b"",
        language=_language(stream),
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
