"""Mux encoded audio packets into a result."""

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av

from service.media.audio.types import AudioPacket, AudioTrack, Container

_PACKET_SAMPLES = {"aac": 1024, "mp3": 1152, "ac3": 1536, "alac": 4096}
_OPUS_DELAY = 312  # samples that an Opus encoder lets pass before the first one counts
_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus"}  # the others are called like their codec


class AudioWriter:
    """The audio tracks of one file: those of `tracks` that its container carries.

    Made before the file is begun, so that its streams are known. `origin_s`: the time in the source
    that becomes zero in the file.
    """

    def __init__(
        self, file: Any, tracks: Iterable[AudioTrack], origin_s: Fraction, container: Container
    ) -> None:
        self.tracks = tuple(track for track in tracks if container in track.containers)
        self._file = file
        self._origin_s = origin_s
        # WebM has no time before zero: the library would move the pictures to make room.
        self._starts_at_zero = container == "webm"
        self._streams = {t.index: _add_stream(file, t, container) for t in self.tracks}
        self._by_index = {track.index: track for track in self.tracks}
        self._ends: dict[int, tuple[int, int]] = {}  # last start and end, by track

    def write(self, packet: AudioPacket) -> None:
        """Put a packet into the file; ignored when the track is not among `tracks`."""
        track = self._by_index.get(packet.track)
        if track is None:
            return
        copy = self._to_library(packet, track)
        if self._starts_at_zero and copy.dts < -_OPUS_DELAY:
            if copy.dts + track.sample_rate * track.time_base < -_OPUS_DELAY:
                return
            copy.pts = copy.dts = -_OPUS_DELAY  # before it by the rounding of a clock alone
        self._file.mux(copy)

    def _to_library(self, packet: AudioPacket, track: AudioTrack) -> Any:
        """Return the packet in ticks of its sample rate, after the one before."""
        rate = track.sample_rate * track.time_base
        shift = self._origin_s * track.sample_rate
        dts, usual = round(packet.dts * rate - shift), _PACKET_SAMPLES.get(track.codec)
        length = usual or round(packet.duration * rate) or 1
        if packet.track in self._ends:
            before, expected = self._ends[packet.track]
            # Clocks coarser than a sample (Matroska: 1 ms) blur times that are evenly spaced.
            dts = expected if abs(expected - dts) <= rate else max(dts, before + 1)
        self._ends[packet.track] = dts, dts + length
        copy = av.Packet(len(packet.data))  # the library's own memory, with its padding
        copy.update(packet.data)
        copy.stream = self._streams[packet.track]
        copy.time_base = Fraction(1, track.sample_rate)
        copy.dts = dts
        copy.pts = dts + max(round((packet.pts - packet.dts) * rate), 0)
        # A last packet of no duration would lie behind the end of its track.
        copy.duration = round(packet.duration * rate) or length
        copy.is_keyframe = packet.is_keyframe
        return copy


def _add_stream(file: Any, track: AudioTrack, container: Container) -> Any:
    """Add a stream that only carries packets.

    A stream made from a template is never opened as an encoder, and its header is what its context
    says. The template is a stream of a second file, never begun but for WebM, whose header states
    the encoder's delay: only an open encoder tells it.
    """
    with av.open(io.BytesIO(), "w", format="mp4") as scratch:
        encoder = _ENCODERS.get(track.codec, track.codec)
        template = scratch.add_stream(encoder, rate=track.sample_rate)
        template.codec_context.layout = "stereo" if container == "webm" else track.layout
        if container == "webm":
            scratch.start_encoding()
        stream = file.add_stream_from_template(template)
    stream.time_base = Fraction(1, track.sample_rate)
    stream.codec_context.layout = track.layout
    stream.codec_context.sample_rate = track.sample_rate
    if track.extradata:
        stream.codec_context.extradata = track.extradata
    labels = track.labels
    if labels.language:
        stream.metadata["language"] = labels.language
    if labels.title:
        stream.metadata["title"] = labels.title
    disposition = av.stream.Disposition
    stream.disposition = (disposition.default if labels.is_default else disposition(0)) | (
        disposition.comment if labels.is_comment else disposition(0)
    )
    return stream
