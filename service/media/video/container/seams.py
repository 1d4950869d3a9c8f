"""MP4 recordings in fragments that were joined byte by byte: one clock, and one header, for all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

from service.media.video.container.boxes import find_boxes, list_boxes, walk_boxes
from service.media.video.container.fragments import MAX_BYTES, Run, read_runs, read_usual

_Clocks = dict[int, Fraction]  # by track, seconds of a tick
# Of a sample entry what says nothing of how to decode its samples.
_BESIDE = (b"btrt", b"pasp", b"colr", b"clli", b"mdcv", b"fiel", b"chan", b"free", b"uuid")
_SOUND_ENTRY, _PICTURE_ENTRY = 28, 78  # bytes before the boxes of a sample entry
_DECODER_TAG = b"\x05"  # of an `esds`; before it are sizes and bit rates


@dataclass
class Seams:
    """What to change in a file for the library, which leaves out fragments whose clock goes back.

    `patches`: bytes by their position. `moved`: how many recordings were moved behind the one
    before. `unread`: how many have another header than the first, by which they cannot be decoded.
    """

    patches: dict[int, bytes] = field(default_factory=dict)
    moved: int = 0
    unread: int = 0


@dataclass
class _Piece:
    """The runs of one recording, with where their fragments begin."""

    runs: list[tuple[int, Run]] = field(default_factory=list)
    tracks: set[int] = field(default_factory=set)


def find_seams(file: BinaryIO, file_bytes: int) -> Seams:
    """Return the seams of an MP4 in fragments."""
    seams, header, clocks = Seams(), None, _Clocks()
    usual: dict[int, int] = {}
    runs: list[tuple[int, Run]] = []
    is_other = False
    for box in walk_boxes(file, 0, file_bytes):
        if box.kind not in (b"moov", b"moof") or box.end - box.content > MAX_BYTES:
            continue
        if box.kind == b"moof" and is_other:
            seams.patches[box.start + 4] = b"free"
            continue
        file.seek(box.content)
        data = file.read(box.end - box.content)
        if box.kind == b"moof":
            runs += [(box.content, run) for run in read_runs(data, usual)]
            continue
        usual |= read_usual(data)
        told = _describe(data)
        if header is None:
            header, clocks = told, _read_clocks(data)
            continue
        is_other = any(header.get(track) != parts for track, parts in told.items())
        seams.unread += is_other
        seams.patches[box.start + 4] = b"free"
    _move(seams, runs, clocks)
    return seams


def _move(seams: Seams, runs: Iterable[tuple[int, Run]], clocks: _Clocks) -> None:
    """Move the clock of each recording behind the one before."""
    ends_s: dict[int, Fraction] = {}
    offset_s = Fraction(0)
    for number, piece in enumerate(_cut(runs, clocks)):
        if number:
            seams.moved += 1
            firsts = {run.track: run for _, run in reversed(piece.runs)}
            offset_s = max(
                (
                    ends_s[track] - (run.start or 0) * clocks[track]
                    for track, run in firsts.items()
                    if track in ends_s
                ),
                default=offset_s,
            )
        for content, run in piece.runs:
            ticks = round(offset_s / clocks[run.track])
            start = (run.start or 0) + ticks
            if ticks and 0 <= start < 1 << 8 * run.clock_bytes:
                seams.patches[content + run.clock_at] = start.to_bytes(run.clock_bytes)
            end_s = (start + run.ticks) * clocks[run.track]
            ends_s[run.track] = max(end_s, ends_s.get(run.track, end_s))


def _cut(runs: Iterable[tuple[int, Run]], clocks: _Clocks) -> list[_Piece]:
    """Return the recordings: one begins where the clock of a track goes back."""
    pieces, ends = [_Piece()], dict[int, int]()
    for content, run in runs:
        if run.start is None or run.track not in clocks:
            continue
        back = ends.get(run.track, run.start) - run.start
        # The library shows a sample that begins before the one before is over.
        if back > run.ticks // max(run.samples, 1) and run.track in pieces[-1].tracks:
            pieces.append(_Piece())
        pieces[-1].runs.append((content, run))
        pieces[-1].tracks.add(run.track)
        ends[run.track] = run.start + run.ticks
    return pieces


def _list_tracks(moov: bytes) -> Iterable[tuple[int, int, int]]:
    """Yield number, content and end of each track of a `moov`."""
    for content, end in find_boxes(moov, 0, len(moov), b"trak"):
        for at, _ in find_boxes(moov, content, end, b"tkhd"):
            at += 20 if moov[at] == 1 else 12
            yield int.from_bytes(moov[at : at + 4]), content, end


def _read_clocks(moov: bytes) -> _Clocks:
    clocks = _Clocks()
    for track, content, end in _list_tracks(moov):
        for at, _ in find_boxes(moov, content, end, b"mdia", b"mdhd"):
            at += 20 if moov[at] == 1 else 12
            rate = int.from_bytes(moov[at : at + 4])
            if rate:
                clocks[track] = Fraction(1, rate)
    return clocks


def _describe(moov: bytes) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return by track what its samples are decoded by."""
    return {
        track: [
            part
            for at, stop in find_boxes(moov, content, end, b"mdia", b"minf", b"stbl", b"stsd")
            for box in list_boxes(moov, at + 8, stop)
            for part in _describe_entry(moov[box.start : box.end])
        ]
        for track, content, end in _list_tracks(moov)
    }


def _describe_entry(entry: bytes) -> Iterable[tuple[bytes, bytes]]:
    kind = entry[4:8]
    for skipped in (_PICTURE_ENTRY, _SOUND_ENTRY):
        boxes = list(list_boxes(entry, 8 + skipped, len(entry)))
        if boxes and boxes[-1].end == len(entry):
            yield kind, entry[8 + 24 : 8 + 28] if skipped == _PICTURE_ENTRY else entry[24:36]
            for box in boxes:
                content = entry[box.content : box.end]
                if box.kind == b"esds":
                    content = content[content.rfind(_DECODER_TAG) :]
                if box.kind not in _BESIDE:
                    yield box.kind, content
            return
    yield kind, entry
