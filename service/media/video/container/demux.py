"""A clip that is open: its packets on one clock, what its file lacks, and what it calls zero."""

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from typing import Any, BinaryIO, cast

import av

from service.media.video.container.clock import ClockCorrector, FlvClock
from service.media.video.container.crops import read_crop
from service.media.video.container.edits import read_edits
from service.media.video.container.ends import count_unread, is_cut
from service.media.video.container.fragments import find_gaps, find_orphans, is_fragmented
from service.media.video.container.gifs import find_backgrounds
from service.media.video.container.holes import HoleWatch
from service.media.video.container.joints import find_joints
from service.media.video.container.opening import make_decoder, open_container, select_stream
from service.media.video.container.patched import PatchedFile
from service.media.video.container.seams import Seams, find_seams
from service.media.video.frames import check_size
from service.media.video.structure import count_broken_places, count_images
from service.media.video.types import VideoLimits

LATEST_START_S = 10
# Clocks that run on without a beginning, and may jump.
_LIVE_FORMATS = ("mpegts",)
# Containers whose duration the library guesses from bytes and rates.
_GUESSED_DURATION = ("mpegts", "gif")


class Demuxer:
    """One clip, open: `stream` is the picture track that is read, `audio` all audio tracks.

    Raises UnsupportedVideo and UndecodableVideo for what is no clip, VideoLimitExceeded for
    pictures that are too large.
    """

    def __init__(self, file: BinaryIO, limits: VideoLimits) -> None:
        self._file = file
        self._file_bytes = file.seek(0, os.SEEK_END)
        self._edits = read_edits(file, self._file_bytes)
        self._is_fragmented = is_fragmented(file, self._file_bytes)
        orphans = find_orphans(file, self._file_bytes) if self._is_fragmented else []
        self._orphans = frozenset(orphans)
        self._seams = find_seams(file, self._file_bytes) if self._is_fragmented else Seams()
        patches = self._edits.patches | self._seams.patches | find_backgrounds(file)
        patches |= {start + 4: b"free" for start in self._orphans}
        self._joints = find_joints(file)
        source = PatchedFile(file, patches, self._joints.end)
        self.container = open_container(source, file, limits)
        self.format: str = self.container.format.name
        self.stream = select_stream(self.container)
        self.audio = tuple(self.container.streams.audio)
        # Tracks of audio without those whose samples cannot be kept as they are.
        self.audible = tuple(s for s in self.audio if s.id not in self._edits.unheard)
        self.clock = ClockCorrector(may_jump=self.format in _LIVE_FORMATS)
        self._flv_clock = FlvClock() if self.format == "flv" else None
        context = self.stream.codec_context
        size = context.width, context.height
        check_size(*size, limits)
        place = file.tell()  # where the library goes on
        self.crop = read_crop(file, self._file_bytes, self.format, self.stream, size)
        file.seek(place)
        self.decoder = make_decoder(self.stream, limits)
        self._packets = Counter[int]()  # by track
        # Whether reading stopped early or inside a packet, and when a picture in it is shown.
        self._stopped = False
        self._last_pos = 0
        self._has_late_tracks = False
        self._holes = HoleWatch() if self.format.startswith(HoleWatch.FORMATS) else None
        self.cut_picture: int | None = None

    def __enter__(self) -> "Demuxer":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def read(self) -> Iterator[Any]:
        """Yield the packets of all tracks until the end of the file or of what can be read."""
        return self.clock.correct(self._demux())

    def _demux(self) -> Iterator[Any]:
        try:
            for packet in self._read_packets():
                if packet.size:
                    index = packet.stream.index
                    self._packets[index] += 1
                    self._last_pos = max(self._last_pos, packet.pos or 0)
                    if self._flv_clock is not None:
                        self._flv_clock.move(packet)
                    if self._holes is not None:
                        self._holes.take(packet)
                    self._note_cut(packet)
                    self._edits.move(packet)
                    yield packet
        except MemoryError:
            raise
        except av.FFmpegError:  # what is left of the file cannot be read
            self._stopped = True

    def _read_packets(self) -> Iterator[Any]:
        """Yield the packets of the tracks that are read.

        The library has no name for a track that begins later, as where a programme changes or a
        file is damaged; its packets are left out.
        """
        while True:
            try:
                yield from self.container.demux([self.stream, *self.audio])
                return
            except IndexError:
                self._has_late_tracks = True

    def _note_cut(self, packet: Any) -> None:
        # A stream that was recorded off the air has damaged packets everywhere.
        if packet.is_corrupt and self.format not in _LIVE_FORMATS:
            self._stopped = True
            if packet.stream.index == self.stream.index:
                self.cut_picture = packet.pts

    @property
    def clock_corrections(self) -> int:
        """How often the clock went back or jumped; at the end of reading."""
        return self.clock.corrections + self._seams.moved

    @property
    def is_cut(self) -> bool:
        """Whether the file ends before it should; at the end of reading."""
        return self._stopped or is_cut(self._file, self.format)

    @property
    def clips_unread(self) -> int:
        """How many clips lie behind this one in the same file; at the end of reading."""
        return (
            self._seams.unread
            + self._joints.unread
            + count_unread(self._file, self.format, self._last_pos)
        )

    def count_places_damaged(self, on_progress: Callable[[], object]) -> int:
        """Return at how many places pieces of the file are not read; at the end of reading."""
        broken = count_broken_places(self._file, self.format, on_progress)
        if self._holes is not None:  # what is broken leaves one
            broken = max(broken, self._holes.count(self._file))
        return broken + self._has_late_tracks

    def count_missing(
        self, streams: Collection[Any], start_s: Fraction | None, end_s: Fraction | None
    ) -> int:
        """Return how many packets of tracks are missing between fragments, within a part."""
        if not self._is_fragmented:
            return 0
        clocks = {stream.id: Fraction(stream.time_base) for stream in streams}
        moved = cast(BinaryIO, PatchedFile(self._file, self._seams.patches))
        gaps = find_gaps(moved, self._file_bytes, self._orphans)
        gaps = [gap for gap in gaps if gap.track in clocks]
        return sum(gap.count_within(clocks[gap.track], start_s, end_s) for gap in gaps)

    def count_lost_tracks(self, read: Collection[int]) -> int:
        """Return how many audio tracks have packets and are not among these streams."""
        return sum(
            self._packets[track.index] > 0 for track in self.audio if track.index not in read
        )

    @property
    def pictures_missing(self) -> int:
        """How many pictures the file lists or holds that did not come; at the end of reading.

        Those of an index lie behind the end of the file. The library takes the pictures of a GIF
        that do not say how long they last for one.
        """
        if self.format == "gif":
            return max(count_images(self._file) - self._packets[self.stream.index], 0)
        if not self.format.startswith("mov"):
            return 0
        known = self.stream.index_entries
        if all(entry.pos + entry.size <= self._file_bytes for entry in known):
            return 0
        return max(len(known) - self._packets[self.stream.index], 0)

    def stated_duration_s(self) -> float | None:
        """Return the duration that the header claims; None where the library only guesses it."""
        if self.format in _GUESSED_DURATION:
            return None
        edited_s = self._edits.find_end(self.stream.id)
        if edited_s is not None:
            return edited_s
        if self.format == "avi" and self.stream.frames:  # its duration is guessed from the bytes
            return float(self.stream.frames * self.stream.time_base)
        if self.stream.duration:
            return max(float(self.stream.duration * self.stream.time_base), 0.0)
        duration: int | None = self.container.duration
        if not duration:
            return None
        # Matroska states when the clip ends; what lies before its start is not part of it.
        start_s: float = (self.container.start_time or 0) / av.time_base
        end_s = duration / av.time_base
        return max(float(end_s - (start_s if start_s > LATEST_START_S else 0)), 0.0)

    def find_origin(self, first_pts: int) -> int:
        """Return the time that a file made of the clip calls zero, in ticks of the pictures.

        It is 0 for a clip that starts between 0 and LATEST_START_S. MPEG-TS, a cut from a live
        stream and a clip that starts before zero start at any time; there it is the start of the
        clip, whichever of its tracks are read.
        """
        time_base = Fraction(self.stream.time_base)
        start_s = first_pts * time_base
        if 0 <= start_s <= LATEST_START_S and self.format not in _LIVE_FORMATS:
            return 0
        unwrap = self._flv_clock.unwrap if self._flv_clock else lambda time: time
        starts_s = [
            Fraction(unwrap(track.start_time) * track.time_base)
            for track in self.audio
            if track.start_time is not None
        ]
        return math.floor(min([start_s, *starts_s]) / time_base)
