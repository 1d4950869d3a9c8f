"""What the scans of a JPEG hold: all of its colours, all of their bits (ITU-T T.81)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from service.media.image.types import TooComplexImage

# Each scan is a walk over all blocks of the picture, for as little as 40 bytes. Encoders make ten;
# Chromium stops at a hundred, too.
MAX_SCANS = 100
# Twelve megabytes of profile and EXIF have 200; each costs a turn of a loop in Python.
MAX_SEGMENTS = 4096
_SOS, EOI = 0xDA, 0xD9
_STANDALONE = (0x01, *range(0xD0, 0xD8))
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
# What follows the pixels of a scan, in which FF is followed by 00 or a restart.
_AFTER_PIXELS = re.compile(b"\xff[\xc4\xda\xd9]")  # tables, a scan, the end
_LAST_COEFFICIENT = 63


def walk_segments(data: bytes | bytearray, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the segments from `at` on, up to the end marker.

    Pixels of a scan come after its segment; rubbish between segments is skipped, as libjpeg does.
    """
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)
            if at < 0:
                return
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == EOI:
            yield marker, at, at + 2
            return
        if marker in _STANDALONE or marker == 0:
            at += 2
            continue
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        if marker != _SOS and end > len(data):
            return
        yield marker, at, end
        at = end
        if marker == _SOS:
            found = _AFTER_PIXELS.search(data, end)
            at = found.start() if found else len(data)


@dataclass(frozen=True)
class Scans:
    """The scans of the first picture of a file.

    `end` is where that ends, behind its end marker if it `is_closed`. `lacks_colour`: a component
    has no scan at all, or only later ones than its first. `lacks_bits`: a progressive one has not
    all of its bits. `has_all_rows`: a progressive one has a whole first scan of every component.
    """

    end: int
    is_closed: bool = False
    is_progressive: bool = False
    lacks_colour: bool = False
    lacks_bits: bool = False
    has_all_rows: bool = False


def read_scans(data: bytes | bytearray) -> Scans:
    """Return what there is, by the headers of the scans alone; raises TooComplexImage."""
    components: list[int] = []
    is_progressive = is_closed = has_all_rows = False
    end, scans = len(data), 0
    first: set[int] = set()  # with their mean values
    bits: dict[tuple[int, int], int] = {}  # by component and coefficient, those still to come
    for number, (marker, start, stop) in enumerate(walk_segments(data), 1):
        if number > MAX_SEGMENTS:
            raise TooComplexImage("JPEG", "segments", MAX_SEGMENTS, number)
        scans += marker == _SOS
        if scans > MAX_SCANS:
            # Within the data of a scan no such pair of bytes is written.
            count = scans + data.count(bytes((0xFF, _SOS)), stop)
            raise TooComplexImage("JPEG", "scans", MAX_SCANS, count)
        if marker in SOF and not components:
            is_progressive = marker in PROGRESSIVE
            count = data[start + 9] if start + 9 < len(data) else 0
            components = list(data[start + 10 : start + 10 + 3 * count : 3])
        elif marker == EOI:
            end, is_closed = stop, True
        elif marker == _SOS and start + 5 <= len(data):
            # The scan before this one is whole.
            has_all_rows = has_all_rows or (is_progressive and first.issuperset(components))
            count = data[start + 4]
            shown = data[start + 5 : start + 5 + 2 * count : 2]
            levels = data[start + 5 + 2 * count : start + 8 + 2 * count]
            if len(levels) < 3 or (is_progressive and levels[0] == 0) or not is_progressive:
                first.update(shown)
            if len(levels) == 3:
                coefficients = range(levels[0], min(levels[1], _LAST_COEFFICIENT) + 1)
                bits |= {
                    (name, number): levels[2] & 15 for name in shown for number in coefficients
                }
    everything = [(name, number) for name in components for number in range(_LAST_COEFFICIENT + 1)]
    return Scans(
        end,
        is_closed,
        is_progressive,
        lacks_colour=not first.issuperset(components),
        lacks_bits=is_progressive and any(bits.get(one, 1) for one in everything),
        has_all_rows=has_all_rows,
    )
