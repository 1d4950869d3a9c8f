"""Decode a clip: frames with their times, and encoded audio (decoder child)."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

from service.media.audio.reader import TrackReader, open_tracks
from service.media.audio.types import AudioPacket, AudioTrack
from service.media.colour.description import UNSPECIFIED
from service.media.video.aspects import read_aspect
from service.media.video.container.demux import Demuxer
from service.media.video.container.opening import DECODE_ERRORS, check_base, count_unread
from service.media.video.container.rate import choose_rate, peek_packets
from service.media.video.decode import PictureDecoder
from service.media.video.frames import FrameReader
from service.media.video.labels import read_labels
from service.media.video.pixels import ColourCodes, has_alpha
from service.media.video.repairs import Repairs
from service.media.video.skip import GroupSkipper
from service.media.video.types import (
    ClipSelection,
    EmptySelection,
    UndecodableVideo,
    VideoFrame,
    VideoInfo,
    VideoItem,
    VideoLimits,
)
from service.media.video.window import FrameSelector

# Audio that comes before the first picture waits in memory; a clip with more is refused.
MAX_EARLY_SOUND_BYTES = 64 << 20
# A clip that ends so much before its header says so has lost its end.
_EARLY_END_S = 1.0
_GROWING = ("vp8", "vp9", "av1")
_STATING_ASPECT = ("mov", "matroska")  # names of containers begin so

ALL = ClipSelection()
Kept = VideoFrame | AudioPacket


def read_video(
    file: BinaryIO,
    limits: VideoLimits,
    selection: ClipSelection = ALL,
    on_progress: Callable[[], object] = lambda: None,
) -> Iterator[VideoItem]:
    """Decode a clip: its VideoInfo, then frames and audio packets in the file's order, its Repairs.

    `file` is open for reading and seekable; nothing else is opened, whatever its bytes ask for.
    The default video track is read (cover pictures are not video), and every audio track.
    Frames are upright (H, W, 3) uint8 RGB of one size: other sizes on the way are scaled to it,
    other shapes fitted into it. Their `pts` always increase; missing ones follow from the duration
    or the rate, and one that does not increase is moved a tick after the frame before. A clock that
    goes back or jumps is corrected for all tracks alike. 10-bit colour is cut to 8, HDR is
    tone-mapped. Of a part that begins late the times stay, and `origin_pts` is its first frame's.
    `on_progress` is called for each packet of the picture, whether something comes of it or not.

    Damaged packets are skipped and a clip cut short yields what decodes, as players do; Repairs
    count what is missing. Raises UnsupportedVideo for other kinds of files, UndecodableVideo
    without a single frame, EmptySelection without one between start and end, VideoLimitExceeded as
    soon as a limit is passed (counted while decoding, not believed; frames that are decoded,
    seconds of what is selected).
    """
    try:
        with Demuxer(file, limits) as demuxer:
            yield from _Reading(demuxer, limits, selection, on_progress).run()
    except DECODE_ERRORS as error:
        raise UndecodableVideo("The video is damaged or of a kind that is not read.") from error


class _Reading:
    """One pass over an open clip."""

    def __init__(
        self,
        demuxer: Demuxer,
        limits: VideoLimits,
        selection: ClipSelection,
        on_progress: Callable[[], object],
    ) -> None:
        self._demuxer = demuxer
        self._on_progress = on_progress
        self._stream = demuxer.stream
        self._limits = limits
        self._selection = selection
        self._window = FrameSelector(selection)
        self._codec: str = demuxer.stream.codec_context.codec.canonical_name
        # What only the container knows; a decoder writes over it.
        self._codes = ColourCodes.of(demuxer.stream.codec_context)
        self._header_size = demuxer.stream.codec_context.width, demuxer.stream.codec_context.height
        self._decoder = PictureDecoder(demuxer, selection.deinterlace)
        self._skipper = GroupSkipper(self._codec, demuxer.decoder)
        self._audio_end_s = Fraction(0)

    def run(self) -> Iterator[VideoItem]:
        packets = self._demuxer.read()
        ahead = peek_packets(packets, self._stream.index)
        rates = choose_rate(self._stream, ahead)
        packets = itertools.chain(ahead, packets)
        streams = self._demuxer.audible if self._selection.audio else ()
        readers, ahead = open_tracks(streams, packets, self._selection.audio)
        tracks = _list_tracks(readers)
        items = self._decode(readers, itertools.chain(ahead, packets))
        early, first = _wait_for_picture(items)
        if first is None:
            raise UndecodableVideo("No picture of the video could be decoded.")
        states_colour = ColourCodes.of(first).transfer != UNSPECIFIED
        check_base(self._stream.codec_context.codec_tag, states_colour)
        self._frames = frames = self._make_frame_reader(first, *rates)
        origin_pts = self._origin_pts = self._demuxer.find_origin(first.pts or 0)
        self._window.begin(origin_pts * frames.time_base, range(len(tracks)))
        if self._window.start_s is not None:
            self._skipper.begin(int(self._window.start_s / frames.time_base))
        kept = self._keep(itertools.chain(early, [first], items), tracks)
        early, frame = _wait_for_picture(kept)
        if frame is None:
            raise EmptySelection
        origin_pts = frame.pts if self._selection.start_s else origin_pts
        yield self._describe(tracks, first, frame, origin_pts)
        # What came while the first picture was in the decoder may begin before it.
        yield from (packet for packet in early if self._takes_audio(packet, tracks))
        yield frame
        yield from kept
        yield self._sum_up(readers)

    def _make_frame_reader(
        self, first: Any, rate: Fraction | None, untrue_rate: Fraction | None
    ) -> FrameReader:
        return FrameReader(
            first,
            self._codes,
            self._codec,
            self._limits,
            self._window,
            time_base=Fraction(self._stream.time_base),
            rate=rate,
            untrue_rate=untrue_rate,
            size=choose_size(self._header_size, first, self._codec),
            crop=self._demuxer.crop,
            measure_stretch=self._measure_stretch,
            tone_maps=self._selection.tone_maps,
        )

    def _measure_stretch(self, pts: int | None) -> Fraction:
        # A container that states a shape states one for all frames.
        is_stated = self._demuxer.format.startswith(_STATING_ASPECT)
        return Fraction(1) if is_stated else self._decoder.aspects.measure(pts)

    def _decode(
        self, readers: dict[int, list[TrackReader]], packets: Iterator[Any]
    ) -> Iterator[Any]:
        """Yield the library's frames and our audio packets, the held back ones last."""
        window = self._window
        for packet in packets:
            if window.is_over:
                return
            if packet.stream.index == self._stream.index and not window.frames_are_over:
                self._on_progress()
                for due in self._skipper.take(packet):
                    yield from self._decode_packet(due)
            for reader in readers.get(packet.stream.index, ()):
                yield from reader.push(packet)
        if not window.frames_are_over:
            for due in (*self._skipper.finish(), None):
                yield from self._decode_packet(due)
            yield from self._decoder.flush()
        for reader in itertools.chain.from_iterable(readers.values()):
            yield from reader.flush()

    def _decode_packet(self, packet: Any) -> Iterator[Any]:
        self._on_progress()
        yield from self._decoder.decode(packet)

    def _keep(self, items: Iterable[Any], tracks: tuple[AudioTrack, ...]) -> Iterator[Kept]:
        """Convert the library's frames; leave out what is not selected."""
        for item in items:
            if isinstance(item, AudioPacket):
                time_base = tracks[item.track].time_base
                end_s = (item.pts + item.duration) * time_base
                self._audio_end_s = max(self._audio_end_s, end_s)
                if self._takes_audio(item, tracks):
                    yield item
            elif (frame := self._frames.read(item)) is not None:
                yield frame

    def _takes_audio(self, packet: AudioPacket, tracks: tuple[AudioTrack, ...]) -> bool:
        time_s = packet.pts * tracks[packet.track].time_base
        return self._window.takes_audio(packet.track, time_s)

    def _describe(
        self, tracks: tuple[AudioTrack, ...], first: Any, frame: VideoFrame, origin_pts: int
    ) -> VideoInfo:
        height, width = frame.size
        frames, stream, window = self._frames, self._stream, self._window
        aspect = read_aspect(stream.sample_aspect_ratio)
        stated_s = self._demuxer.stated_duration_s()
        pixels, decoder = frames.pixels, self._decoder
        return VideoInfo(
            width=width,
            height=height,
            rotation_deg=frames.orientation.rotation_deg,
            mirrored=frames.orientation.mirrored,
            time_base=frames.time_base,
            average_rate=min(filter(None, (frames.average_rate, window.rate)), default=None),
            sample_aspect_ratio=1 / aspect if frames.orientation.transposed else aspect,
            container=self._demuxer.format,
            codec=self._codec,
            color_range=pixels.codes.range,
            color_primaries=pixels.primaries,
            color_trc=pixels.transfer,
            colorspace=pixels.matrix,
            frames_estimate=window.estimate(stream.frames, stated_s, frames.average_rate),
            duration_s=window.measure(stated_s),
            origin_pts=origin_pts,
            audio=tracks,
            pixel_format=first.format.name,
            bit_depth=max(component.bits for component in first.format.components),
            interlaced=bool(first.interlaced_frame)
            or decoder.has_fields
            or decoder.is_deinterlacing,
            deinterlaced=decoder.is_deinterlacing,
            top_field_first=decoder.top_field_first,
            tone_mapped_from=pixels.hdr,
            gamut_converted_from=pixels.converted_from,
            has_alpha=has_alpha(first.format),
            labels=read_labels(
                self._demuxer.container,
                origin_pts * frames.time_base,
                window.measure(stated_s),
                keeps_metadata=self._selection.keeps_metadata,
            ),
        )

    def _sum_up(self, readers: dict[int, list[TrackReader]]) -> Repairs:
        """Return what was missing or moved; counted for the selection."""
        frames, demuxer, window = self._frames, self._demuxer, self._window
        losses = self._decoder.losses
        lost = [pts for pts in losses.list_lost() if window.contains(pts * frames.time_base)]
        missing = 0 if window.frames_are_over else demuxer.pictures_missing
        part_s = window.start_s, window.end_s
        stated_s = demuxer.stated_duration_s()
        early_s, cut = 0.0, not window.frames_are_over and demuxer.is_cut
        if stated_s is not None and self._selection.end_s is None:
            zero_s = self._origin_pts * frames.time_base
            end_s = max(frames.end_pts * frames.time_base, self._audio_end_s) - zero_s
            early_s = max(stated_s - float(end_s), 0.0)
        sounds = list(filter(None, readers.values()))  # the readers of each stream see the same
        return Repairs(
            frames_lost=len(lost) + missing + demuxer.count_missing([self._stream], *part_s),
            frames_damaged=losses.count_damaged(demuxer.cut_picture),
            clock_corrections=demuxer.clock_corrections + frames.moved,
            frames_resized=frames.resized,
            frames_fitted=frames.fitted,
            frames_combed=self._decoder.frames_combed,
            colour_changes=frames.colour_changes,
            audio_packets_lost=sum(max(one.packets_lost for one in some) for some in sounds)
            + demuxer.count_missing(demuxer.audible if self._selection.audio else (), *part_s),
            audio_changes=sum(max(one.changes for one in some) for some in sounds),
            audio_tracks_lost=demuxer.count_lost_tracks(readers) if self._selection.audio else 0,
            ends_early_s=round(early_s, 3) if cut or early_s > _EARLY_END_S else 0.0,
            cut_short=int(cut),
            video_tracks_unread=count_unread(self._stream),
            clips_unread=demuxer.clips_unread,
            places_damaged=0
            if window.frames_are_over
            else max(demuxer.count_places_damaged(self._on_progress), self._decoder.places_damaged),
            turn_ignored_deg=frames.turn_ignored_deg,
        )


def _wait_for_picture(items: Iterator[Any]) -> tuple[list[Any], Any]:
    """Return the audio before the first picture, and that; None where there is none."""
    early: list[AudioPacket] = []
    early_bytes = 0
    for item in items:
        if not isinstance(item, AudioPacket):
            return early, item
        early.append(item)
        early_bytes += len(item.data) + 256
        if early_bytes > MAX_EARLY_SOUND_BYTES:
            break
    return early, None


def _list_tracks(readers: dict[int, list[TrackReader]]) -> tuple[AudioTrack, ...]:
    found = [t for some in readers.values() for reader in some for t in reader.tracks]
    return tuple(sorted(found, key=lambda track: track.index))


def choose_size(header: tuple[int, int], first: Any, codec: str) -> tuple[int, int]:
    """Return width and height of the coded pictures: those of the first one, or the header's.

    Codecs of video calls begin small and grow; there the header says how far.
    """
    size = first.width, first.height
    grows = codec in _GROWING and header[0] * header[1] > size[0] * size[1]
    return header if grows else size
