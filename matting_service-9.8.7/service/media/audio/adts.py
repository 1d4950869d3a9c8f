"""Copy AAC of MPEG-TS: its packets say their own form, in ADTS headers (decoder child)."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from service.media.audio.encoder import AudioEncoder, decode_packet, to_items
from service.media.audio.layouts import Layout
from service.media.audio.types import AudioPacket, AudioTrack


class AdtsTrack:
    """Takes the ADTS headers off AAC packets (MPEG-TS); the coded audio stays as it is.

    A track has one description for all of its packets: those of another form are encoded anew in
    the form of the first.
    """

    def __init__(self, stream: Any, layout: Layout, track: AudioTrack, first_packet: Any) -> None:
        self.tracks: tuple[AudioTrack, ...] = (track,)
        self.packets_lost = self.changes = 0
        self._stream, self._layout = stream, layout
        self._filter = av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
        self._form = self._first_form = _read_adts_form(first_packet)
        self._recoder: AudioEncoder | None = None

    def push(self, packet: Any) -> list[AudioPacket]:
        form = _read_adts_form(packet)
        if form is not None and form != self._form:
            self._form, self.changes = form, self.changes + 1
        if self._form != self._first_form:
            return self._recode(packet)
        try:
            return self._end_recoding() + to_items(
                self._filter.filter(packet), self.tracks[0].index
            )
        except av.InvalidDataError:  # a damaged packet is left out
            self.packets_lost += 1
            return []

    def flush(self) -> list[AudioPacket]:
        return self._end_recoding() + to_items(self._filter.filter(None), self.tracks[0].index)

    def _recode(self, packet: Any) -> list[AudioPacket]:
        track = self.tracks[0]
        if self._recoder is None:
            layout = replace(self._layout, order=None)
            args = track.sample_rate, track.index, "aac", track.containers, track.labels
            self._recoder = AudioEncoder("aac", layout, *args)
        items: list[AudioPacket] = []
        for frame in decode_packet(self, self._stream.codec_context, packet):
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


def _read_adts_form(packet: Any) -> tuple[int, int] | None:
    """Return the bits of an ADTS header that say profile, rate and channels; None without one."""
    data = memoryview(packet)
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xF0 != 0xF0:
        return None
    return data[2] & 0xFD, data[3] & 0xC0
