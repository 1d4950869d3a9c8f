"""Encoding of decoded audio for containers that cannot carry it as it came; in the child alone."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Protocol

import av
from av.filter import Graph

from service.media.audio.layouts import Layout
from service.media.audio.types import (
    MAX_AUDIO_PACKET_BYTES,
    AudioPacket,
    AudioTrack,
    Container,
    TrackLabels,
)
from service.media.wire.fields import MAX_TICKS

REENCODED_BIT_RATE = 128_000
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_GLOBAL_HEADER = 1 << 22
# What audio becomes that a container does not carry: encoder, sample format, rates.
ENCODERS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "aac": ("aac", "fltp", AAC_RATES),
    "opus": ("libopus", "flt", (48_000,)),
}


class AudioConverter:
    """Decoded audio of any form, and of forms that change, to one form.

    `order`: where the channels of the result are in what comes, None as their names say.
    """

    def __init__(
        self, sample_format: str, layout: str, rate: int, order: tuple[int, ...] | None
    ) -> None:
        self._sample_format, self._layout, self._rate = sample_format, layout, rate
        self._order = order
        self._graph: Graph | None = None
        self._form: tuple[str, str, int] | None = None
        self.changes = 0

    def convert(self, frame: Any) -> list[Any]:
        """Return converted frames; None at the end."""
        if frame is None:
            return self._flush()
        form = frame.format.name, frame.layout.name, frame.sample_rate
        ready: list[Any] = []
        if form != self._form:
            ready = self._flush()
            self.changes += self._form is not None
            self._graph, self._form = self._make_graph(frame), form
        assert self._graph is not None
        self._graph.push(frame)
        return ready + self._pull(self._graph)

    def _flush(self) -> list[Any]:
        graph, self._graph = self._graph, None
        if graph is None:
            return []
        graph.push(None)
        return self._pull(graph)

    def _make_graph(self, frame: Any) -> Graph:
        graph = Graph()
        graph.threads = 1  # else one for each core, and each reserves address space
        nodes = [
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            )
        ]
        if self._order is not None and len(self._order) == frame.layout.nb_channels:
            parts = "|".join(map(str, self._order))
            text = f"map={parts}:channel_layout={frame.layout.name}"
            nodes.append(graph.add("channelmap", text))
        text = f"{self._sample_format}:sample_rates={self._rate}:channel_layouts={self._layout}"
        nodes += [graph.add("aformat", f"sample_fmts={text}"), graph.add("abuffersink")]
        graph.link_nodes(*nodes).configure()
        return graph

    def _pull(self, graph: Graph) -> list[Any]:
        frames: list[Any] = []
        while True:
            try:
                frame: Any = graph.pull()
            except (av.BlockingIOError, EOFError):
                return frames
            if frame.pts is not None:  # one clock, whatever each form had
                frame.pts = round(frame.pts * frame.time_base * self._rate)
            frame.time_base = Fraction(1, self._rate)
            frames.append(frame)


class AudioEncoder:
    """Encodes decoded audio as `codec`, mono or stereo, for `containers`.

    `rate` and `is_mono` as the source has them, unless the codec knows no such rate.
    """

    def __init__(
        self,
        source: str,
        layout: Layout,
        rate: int,
        index: int,
        codec: str,
        containers: tuple[Container, ...],
        labels: TrackLabels,
    ) -> None:
        name, sample_format, rates = ENCODERS[codec]
        rate = min(rates, key=lambda known: abs(known - rate))
        target = "mono" if layout.channels == 1 else "stereo"
        self._converter = AudioConverter(sample_format, target, rate, layout.order)
        self._encoder = av.CodecContext.create(name, "w")
        self._encoder.sample_rate = rate
        self._encoder.layout = target
        self._encoder.format = sample_format
        self._encoder.bit_rate = REENCODED_BIT_RATE
        self._encoder.time_base = Fraction(1, rate)
        self._encoder.flags |= _GLOBAL_HEADER
        self._encoder.open()
        self.frames_lost = 0
        self.track = AudioTrack(
            index=index,
            codec=codec,
            sample_rate=rate,
            layout=target,
            time_base=Fraction(1, rate),
            extradata=bytes(self._encoder.extradata or b""),
            labels=labels,
            reencoded_from=source,
            mixed_from=layout.name if layout.channels > 2 else None,
            containers=containers,
        )

    @property
    def changes(self) -> int:
        """How often the form of the audio changed on the way."""
        return self._converter.changes

    def push(self, frame: Any) -> list[AudioPacket]:
        """Take a decoded frame, None at the end; return the packets that are ready."""
        packets: list[Any] = []
        try:
            for converted in self._converter.convert(frame):
                packets += self._encoder.encode(converted)
            if frame is None:
                packets += self._encoder.encode(None)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            self.frames_lost += 1
        return to_items(packets, self.track.index)


class LossyReader(Protocol):
    """What counts the packets that it could not decode."""

    packets_lost: int


def decode_packet(reader: LossyReader, context: Any, packet: Any) -> list[Any]:
    """Return the frames of a packet; a damaged one is counted."""
    try:
        return list(context.decode(packet))
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):
        reader.packets_lost += packet is not None
        return []


def to_items(packets: Iterable[Any], index: int) -> list[AudioPacket]:
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
