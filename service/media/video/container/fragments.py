"""What is missing between the fragments of an MP4 (ISO 14496-12, 8.8)."""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import BinaryIO, NamedTuple

from service.media.video.container.boxes import find_boxes, read_inside, walk_boxes

MAX_BYTES = 4 << 20  # of a `moof`; larger ones are not looked into
_MOST = 1 << 32  # samples of a gap; more are damage
_SKIPPED_OF_TFHD = ((1, 8), (2, 4))  # flags, and the bytes of their fields before the duration


class Gap(NamedTuple):
    """Samples that a track lacks: its number, ticks when the first one is decoded, and how long
    one lasts."""

    track: int
    start: int
    step: int
    samples: int

    def count_within(
        self, clock: Fraction, start_s: Fraction | None, end_s: Fraction | None
    ) -> int:
        """Return how many of the samples lie within a part; `clock`: seconds of a tick."""
        times = range(self.start, self.start + self.samples * self.step, self.step)
        first = 0 if start_s is None else bisect_left(times, start_s / clock)
        end = len(times) if end_s is None else bisect_left(times, end_s / clock)
        return max(end - first, 0)


class Run(NamedTuple):
    """The samples of one track in one fragment: when they begin, None where it does not say.

    `clock_at`: where in the content of the `moof` that is said, in so many bytes.
    """

    track: int
    start: int | None
    ticks: int
    samples: int
    clock_at: int = 0
    clock_bytes: int = 0


def is_fragmented(file: BinaryIO, file_bytes: int) -> bool:
    """Say whether the header of a file announces fragments."""
    moov = next((box for box in walk_boxes(file, 0, file_bytes) if box.kind == b"moov"), None)
    return moov is not None and bool(read_inside(file, moov, b"mvex"))


def find_orphans(file: BinaryIO, file_bytes: int) -> list[int]:
    """Return where the `moof` boxes are whose samples are not there: no `mdat` follows.

    The library would take what lies in their place for samples. Of a file whose samples come before
    their `moof` nothing is said.
    """
    orphans, waiting = list[int](), None
    for box in walk_boxes(file, 0, file_bytes):
        if box.kind == b"mdat":
            if waiting is None and not orphans:
                return []
            waiting = None
        elif box.kind in (b"moof", b"mfra"):
            orphans += [] if waiting is None else [waiting]
            waiting = box.start if box.kind == b"moof" else None
    return orphans if waiting is None else [*orphans, waiting]


def find_gaps(file: BinaryIO, file_bytes: int, orphans: Collection[int]) -> list[Gap]:
    """Return what fragments that are missing held, by those before and behind them.

    Fragments are numbered. Where a number is left out and the clock of a track goes on later than
    the samples before end, these are missing. A pause leaves no number out. Of `orphans` all is.
    """
    gaps: list[Gap] = []
    usual: dict[int, int] = {}  # by track, what a sample lasts
    ends: dict[int, tuple[int, int]] = {}  # by track, when its samples end, and how long one is
    last = None
    for box in walk_boxes(file, 0, file_bytes):
        if box.kind not in (b"moov", b"moof") or box.end - box.content > MAX_BYTES:
            continue
        file.seek(box.content)
        data = file.read(box.end - box.content)
        if box.kind == b"moov":
            usual |= read_usual(data)
            continue
        number = next((int.from_bytes(data[at + 4 : at + 8]) for at, _ in _find(data, b"mfhd")), 0)
        is_missing = last is not None and number > last + 1
        last = number
        for run in read_runs(data, usual):
            end, usual_step = ends.get(run.track, (0, 0))
            start = end if run.start is None else run.start
            step = max(run.ticks // run.samples, 1) if run.samples else usual_step
            if is_missing and usual_step and start >= end + usual_step:
                samples = min(round((start - end) / usual_step), _MOST)
                gaps.append(Gap(run.track, end, usual_step, samples))
            if box.start in orphans and step:
                gaps.append(Gap(run.track, start, step, min(run.samples, _MOST)))
            ends[run.track] = start + run.ticks, step
    return gaps


def _find(data: bytes, *path: bytes) -> Iterator[tuple[int, int]]:
    return find_boxes(data, 0, len(data), *path)


def read_usual(moov: bytes) -> dict[int, int]:
    """Return what a sample of each track lasts where a fragment does not say it."""
    return {
        int.from_bytes(moov[at + 4 : at + 8]): int.from_bytes(moov[at + 12 : at + 16])
        for at, _ in _find(moov, b"mvex", b"trex")
    }


def read_runs(moof: bytes, usual: dict[int, int]) -> Iterator[Run]:
    """Yield the runs of a fragment by the content of its `moof`."""
    for content, end in _find(moof, b"traf"):
        at = next((at for at, _ in find_boxes(moof, content, end, b"tfhd")), None)
        if at is None:
            continue
        told, track = int.from_bytes(moof[at + 1 : at + 4]), int.from_bytes(moof[at + 4 : at + 8])
        step, at = usual.get(track, 0), at + 8
        at += sum(size for flag, size in _SKIPPED_OF_TFHD if told & flag)
        if told & 8:
            step = int.from_bytes(moof[at : at + 4])
        start, clock_at, clock_bytes = None, 0, 0
        for at, _ in find_boxes(moof, content, end, b"tfdt"):
            clock_at, clock_bytes = at + 4, 8 if moof[at] == 1 else 4
            start = int.from_bytes(moof[clock_at : clock_at + clock_bytes])
        ticks = samples = 0
        for at, run_end in find_boxes(moof, content, end, b"trun"):
            more_ticks, more = _measure(moof, at, run_end, step)
            ticks, samples = ticks + more_ticks, samples + more
        yield Run(track, start, ticks, samples, clock_at, clock_bytes)


def _measure(moof: bytes, at: int, end: int, usual: int) -> tuple[int, int]:
    """Return how many ticks the samples of a `trun` last, and how many they are."""
    told, count = int.from_bytes(moof[at + 1 : at + 4]), int.from_bytes(moof[at + 4 : at + 8])
    at += 8 + 4 * bool(told & 1) + 4 * bool(told & 4)
    size = 4 * (told >> 8 & 15).bit_count()
    if not told & 0x100:
        return usual * count, count
    count = min(count, (end - at) // size)
    steps = (int.from_bytes(moof[at + n * size : at + n * size + 4]) for n in range(count))
    return sum(steps), count
