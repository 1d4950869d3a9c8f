"""Edit lists (ISO 14496-12, 8.6.6) put into an MP4 in place of its own."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import clips

# Movie ticks that it lasts, media ticks where it begins (-1: nothing there), and its speed.
Edit = tuple[int, int] | tuple[int, int, float]


def make_editable(path: Path, seconds: float, event_s: float) -> Path:
    """Write an MP4 at 25 frames a second with B-frames, its clocks in ms, 1/12800 s and samples."""
    options = {"movie_timescale": "1000", "video_track_timescale": "12800"}
    return clips.make_clip(path, seconds=seconds, fps=25, event_s=event_s, options=options)


def find_box(data: bytes, *kinds: str, start: int = 0, end: int | None = None) -> tuple[int, int]:
    """Return position and size of the box that is reached by these kinds, one inside another."""
    at, end = start, len(data) if end is None else end
    while at < end:
        size, kind = struct.unpack_from("!I4s", data, at)
        if kind == kinds[0].encode():
            return (at, size) if len(kinds) == 1 else find_box(data, *kinds[1:], start=at + 8)
        at += size
    raise LookupError(kinds)


def list_tracks(data: bytes) -> list[tuple[int, int]]:
    """Return position and size of the `trak` boxes."""
    at, size = find_box(data, "moov")
    end, found = at + size, []
    at += 8
    while at < end:
        size, kind = struct.unpack_from("!I4s", data, at)
        if kind == b"trak":
            found.append((at, size))
        at += size
    return found


def set_edits(source: Path, target: Path, edits: Mapping[int, Sequence[Edit]]) -> Path:
    """Write an MP4, whose `moov` is its last box, with these edits of its tracks."""
    data = bytearray(source.read_bytes())
    moov, _ = find_box(data, "moov")
    for number in sorted(edits, reverse=True):
        track, size = list_tracks(data)[number]
        old, old_size = find_box(data, "edts", start=track + 8)
        body = b"".join(_pack(*edit) for edit in edits[number])
        new = struct.pack("!I4sI4sII", 24 + len(body), b"edts", 16 + len(body), b"elst", 0, 0)
        new = new[:20] + struct.pack("!I", len(edits[number])) + body
        data[old : old + old_size] = new
        more = len(new) - old_size
        data[track : track + 4] = struct.pack("!I", size + more)
        moov_size = int.from_bytes(data[moov : moov + 4])
        data[moov : moov + 4] = struct.pack("!I", moov_size + more)
    target.write_bytes(data)
    return target


def _pack(duration: int, media: int, rate: float = 1) -> bytes:
    return struct.pack("!Iii", duration, media, round(rate * 65536))
