"""Copy audio as it is coded, and notice where its form changes (decoder child)."""

from collections.abc import Hashable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from service.media.audio.encoder import AudioEncoder, decode_packet, to_items
from service.media.audio.layouts import Layout
from service.media.audio.types import AudioPacket, AudioTrack

_MONO_MP3 = 3
_INDEPENDENT_EAC3 = (0, 2)
# E-AC-3 has a bit stream identification above this (ATSC A/52, annex E).
_LAST_AC3 = 10


class CopiedTrack:
    """Hands the stream's packets on byte for byte.

    A track has one description for all of its packets. AAC of another form than the first is
    encoded anew in that; packets of other codecs say their form themselves, and players follow.
    `changes` counts both. Of what an edit list cuts off only the last packet is kept, which
    decoders need for the one behind it. Packets that cannot be decoded are left out and counted.
    """

    def __init__(self, stream: Any, layout: Layout, track: AudioTrack) -> None:
        self.tracks: tuple[AudioTrack, ...] = (track,)
        self.packets_lost = self.changes = 0
        self._stream, self._layout = stream, layout
        self._form = self._first_form = self._read_first_form()
        self._recoder: AudioEncoder | None = None
        self._cut_off: Any = None
        # Of its own: the stream's may decode the same packets for other containers.
        context = stream.codec_context
        self._decoder = av.CodecContext.create(context.codec.canonical_name, "r")
        self._decoder.extradata = context.extradata

    def push(self, packet: Any) -> list[AudioPacket]:
        if packet.is_discard:
            self._cut_off = packet
            return []
        before, self._cut_off = self._cut_off, None
        return ([] if before is None else self._take(before)) + self._take(packet)

    def _take(self, packet: Any) -> list[AudioPacket]:
        lost = self.packets_lost
        frames = decode_packet(self, self._decoder, packet)
        if self.packets_lost > lost:
            return []
        form = self._read_form(packet)
        if self._first_form is None:
            self._form = self._first_form = form
        if form is not None and form != self._form:
            self._form, self.changes = form, self.changes + 1
        if self._form != self._first_form and self.tracks[0].codec == "aac":
            return self._recode(frames)
        return self._end_recoding() + self._copy(packet)

    def flush(self) -> list[AudioPacket]:
        return self._end_recoding()

    def _read_first_form(self) -> Hashable:
        return self.tracks[0].extradata or None

    def _read_form(self, packet: Any) -> Hashable:
        """Return what a packet says of the form of the audio, None where it says nothing."""
        if self.tracks[0].extradata:
            stated = packet.has_sidedata("new_extradata")
            return bytes(packet.get_sidedata("new_extradata")) if stated else None
        return read_form(self.tracks[0].codec, memoryview(packet))

    def _copy(self, packet: Any) -> list[AudioPacket]:
        return to_items([packet], self.tracks[0].index)

    def _recode(self, frames: list[Any]) -> list[AudioPacket]:
        track = self.tracks[0]
        if self._recoder is None:
            layout = replace(self._layout, order=None)
            args = track.sample_rate, track.index, "aac", track.containers, track.labels
            self._recoder = AudioEncoder("aac", layout, *args)
        items: list[AudioPacket] = []
        for frame in frames:
            items += self._recoder.push(frame)
        return [self._rescale(item) for item in items]

    def _end_recoding(self) -> list[AudioPacket]:
        if self._recoder is None:
            return []
        recoder, self._recoder = self._recoder, None
        return [self._rescale(item) for item in recoder.push(None)]

    def _rescale(self, item: AudioPacket) -> AudioPacket:
        ratio = Fraction(1, self.tracks[0].sample_rate) / self.tracks[0].time_base
        times = (item.pts, item.dts, item.duration)
        pts, dts, duration = (round(time * ratio) for time in times)
        return replace(item, pts=pts, dts=dts, duration=duration)


class AdtsTrack(CopiedTrack):
    """Takes the ADTS headers off AAC packets (MPEG-TS); the coded audio stays as it is."""

    def __init__(self, stream: Any, layout: Layout, track: AudioTrack, first_packet: Any) -> None:
        self._first_packet = first_packet
        super().__init__(stream, layout, track)
        self._filter = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)

    def flush(self) -> list[AudioPacket]:
        return super().flush() + to_items(self._filter.filter(None), self.tracks[0].index)

    def _read_first_form(self) -> Hashable:
        return self._read_form(self._first_packet)

    def _read_form(self, packet: Any) -> Hashable:
        return read_form("aac", memoryview(packet))

    def _copy(self, packet: Any) -> list[AudioPacket]:
        try:
            return to_items(self._filter.filter(packet), self.tracks[0].index)
        except av.InvalidDataError:  # a damaged packet is left out
            self.packets_lost += 1
            return []


def read_form(codec: str, data: memoryview) -> Hashable:
    """Return the bits of a packet that say rate and channels; None where there are none.

    AAC with ADTS headers (ISO/IEC 14496-3, 1.A.3.2), MP3 (ISO/IEC 11172-3, 2.4.2.3), AC-3 and
    E-AC-3 (ATSC A/52, 5.3 and E.1.2).
    """
    if len(data) < 7:
        return None
    if codec in ("aac", "mp3"):
        if data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
            return None
        if codec == "aac":
            return data[2] & 0xFD, data[3] & 0xC0
        return data[1] & 0x1E, data[2] & 0x0C, data[3] >> 6 == _MONO_MP3
    if codec not in ("ac3", "eac3") or bytes(data[:2]) != b"\x0b\x77":
        return None
    if data[5] >> 3 > _LAST_AC3:
        is_independent = data[2] >> 6 in _INDEPENDENT_EAC3
        return (data[4] & 0xCF, True) if is_independent else None
    mode = data[6] >> 5
    # Up to three levels of mixing lie before the flag of the low frequencies.
    skipped = 3 + 2 * sum([bool(mode & 1) and mode != 1, bool(mode & 4), mode == 2])
    bits = int.from_bytes(data[6:8]) if len(data) > 7 else data[6] << 8
    return data[4] & 0xC0, mode, bits >> (15 - skipped) & 1
