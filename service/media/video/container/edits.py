"""Edit lists that the library does not follow: pauses, still pictures and other speeds.

An edit list (ISO 14496-12, 8.6.6) says which parts of a track are shown, one after another. FFmpeg
follows parts at their own speed, and a pause before the first one. It shows made-up parts in place
of later pauses and takes every speed for 1. Here it gets a list that it follows, and its times are
moved to where the file's own list has them.
"""

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple

from service.media.video.container.boxes import Box, read_inside, walk_boxes
from service.media.video.types import UndecodableVideo

_MAX_BYTES = 1 << 20  # of a list; longer ones are left to the library
_PAUSE = -1
_ENTRIES = (">IihH", ">QqhH")  # duration, start in the media, speed and its fraction


class _Edit(NamedTuple):
    """Ticks of the movie that a part lasts, ticks of the track where it begins, and its speed."""

    duration: int
    media: int
    rate: Fraction

    @property
    def is_pause(self) -> bool:
        return self.media == _PAUSE


@dataclass(frozen=True)
class _Part:
    """Ticks: where a part begins on the library's clock, where it is shown, how long if still.

    `stretch`: ticks that are shown for one of the library's.
    """

    start: int
    shown: int
    stretch: Fraction
    still: int | None = None


@dataclass
class EditLists:
    """What to change in a clip's file for the library, and in the times that it says.

    `patches`: bytes by their position. `unheard`: the numbers of tracks of audio that a list plays
    at another speed.
    """

    patches: dict[int, bytes] = field(default_factory=dict)
    unheard: set[int] = field(default_factory=set)
    _parts: dict[int, list[_Part]] = field(default_factory=dict)
    _ends_s: dict[int, float] = field(default_factory=dict)

    def find_end(self, track: int) -> float | None:
        """Return when the last part of a track ends, seconds; None where the library knows it."""
        return self._ends_s.get(track)

    def move(self, packet: Any) -> None:
        """Move a packet to where the file's own list has it, in place."""
        parts = self._parts.get(packet.stream.id)
        if not parts or packet.pts is None:
            return
        part = parts[max(bisect_right(parts, packet.pts, key=lambda part: part.start) - 1, 0)]
        packet.pts = part.shown + round((packet.pts - part.start) * part.stretch)
        if packet.dts is not None:
            packet.dts = part.shown + round((packet.dts - part.start) * part.stretch)
        duration = round((packet.duration or 0) * part.stretch)
        packet.duration = duration if part.still is None else part.still

    def _add(self, track: "_Track", movie_rate: int) -> None:
        """Take a track whose list the library does not follow."""
        parts, kept = list[_Part](), list[_Edit]()
        ahead, elapsed = 0, Fraction(0)  # on the library's clock, and on that of the movie
        for edit in track.edits:
            shown = round(elapsed * track.rate)
            elapsed += Fraction(edit.duration, movie_rate)
            if edit.is_pause and parts:
                continue
            still = None
            told = edit._replace(duration=max(round(edit.duration * (edit.rate or 1)), 1))
            if edit.rate == 0 and not edit.is_pause:
                if track.kind == b"soun":  # one moment of audio is silence
                    continue
                still = round(elapsed * track.rate) - shown
                told = track.choose_picture(edit, movie_rate)
            kept.append(told._replace(rate=Fraction(1)))
            stretch = Fraction(0) if still else 1 / Fraction(edit.rate or 1)
            if not edit.is_pause:
                self._ends_s[track.number] = float(elapsed)
                parts.append(_Part(ahead, shown, stretch, still))
            ahead += round(Fraction(told.duration * track.rate, movie_rate))
        self._parts[track.number] = parts
        self.patches[track.at] = track.pack(kept)
        if track.kind == b"soun" and any(edit.rate not in (0, 1) for edit in track.edits):
            self.unheard.add(track.number)


@dataclass(frozen=True)
class _Track:
    """A track of the file: its number, kind and clock, its edits and where their box is.

    `usual`: ticks that most of its samples last.
    """

    number: int
    kind: bytes
    rate: int
    usual: int
    at: int
    version: int
    edits: Sequence[_Edit]

    @property
    def is_followed(self) -> bool:
        """Whether the library shows what the list says."""
        first = next((n for n, edit in enumerate(self.edits) if not edit.is_pause), 0)
        later = self.edits[first:]
        return all(edit.rate == 1 and not edit.is_pause for edit in later)

    def choose_picture(self, edit: _Edit, movie_rate: int) -> _Edit:
        """Return the edit that has just the picture that is shown at a moment."""
        duration = max(self.usual * movie_rate // self.rate, 1)
        media = edit.media + 1 - round(Fraction(duration * self.rate, movie_rate))
        return _Edit(duration, max(media, 0), Fraction(1))

    def pack(self, edits: Sequence[_Edit]) -> bytes:
        """Return the box with these edits, not more than it has, and what is left as a free one."""
        entry = struct.Struct(_ENTRIES[self.version])
        packed = b"".join(entry.pack(edit.duration, edit.media, 1, 0) for edit in edits)
        size, rest = 16 + len(packed), (len(self.edits) - len(edits)) * entry.size
        box = struct.pack(">I4sB3xI", size, b"elst", self.version, len(edits)) + packed
        return box + (struct.pack(">I4s", rest, b"free") if rest else b"")


def read_edits(file: BinaryIO, file_bytes: int) -> EditLists:
    """Return what the library needs for an MP4 or MOV; nothing for any other file.

    Raises UndecodableVideo for parts that play backwards.
    """
    found = EditLists()
    moov = next((box for box in walk_boxes(file, 0, file_bytes) if box.kind == b"moov"), None)
    if moov is None:
        return found
    header = read_inside(file, moov, b"mvhd")
    movie_rate = _read_clock(header)
    for box in walk_boxes(file, moov.content, moov.end) if movie_rate else ():
        track = _read_track(file, box) if box.kind == b"trak" else None
        if track is None or not track.rate or track.is_followed:
            continue
        if any(edit.rate < 0 for edit in track.edits):
            raise UndecodableVideo(
                "The video's edit list plays parts of it backwards, which is not read; export it "
                "anew from the program that edited it."
            )
        found._add(track, movie_rate)
    return found


def _read_clock(header: bytes) -> int:
    """Return the ticks in a second of an `mvhd` or `mdhd`, 0 where it is not whole."""
    at = 20 if header[:1] == b"\1" else 12
    return int.from_bytes(header[at : at + 4]) if len(header) >= at + 4 else 0


def _read_track(file: BinaryIO, box: Box) -> _Track | None:
    """Return what a `trak` says, None where it has no list."""
    inside = {one.kind: one for one in walk_boxes(file, box.content, box.end)}
    if not {b"edts", b"mdia", b"tkhd"} <= inside.keys():
        return None
    lists = walk_boxes(file, inside[b"edts"].content, inside[b"edts"].end)
    found = next((one for one in lists if one.kind == b"elst"), None)
    if found is None or not 16 <= found.end - found.start <= _MAX_BYTES:
        return None
    file.seek(found.content)
    data = file.read(found.end - found.content)
    version = min(data[0], 1)
    entry = struct.Struct(_ENTRIES[version])
    count = min(int.from_bytes(data[4:8]), (len(data) - 8) // entry.size)
    edits = [
        _Edit(duration, media, whole + Fraction(part, 65536))
        for duration, media, whole, part in entry.iter_unpack(data[8 : 8 + count * entry.size])
    ]
    media = inside[b"mdia"]
    head = read_inside(file, box, b"tkhd")
    number_at = 20 if head[:1] == b"\1" else 12
    steps = read_inside(file, media, b"minf", b"stbl", b"stts")[8 : 8 + _MAX_BYTES]
    _, usual = max(struct.iter_unpack(">II", steps[: len(steps) // 8 * 8]), default=(0, 1))
    return _Track(
        number=int.from_bytes(head[number_at : number_at + 4]),
        kind=read_inside(file, media, b"hdlr")[8:12],
        rate=_read_clock(read_inside(file, media, b"mdhd")),
        usual=usual,
        at=found.start,
        version=version,
        edits=edits,
    )
