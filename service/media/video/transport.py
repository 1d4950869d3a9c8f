"""What is missing in the middle of an MPEG-TS, by the counters of its packets (ISO 13818-1)."""

from collections import Counter
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.media.video.container.formats import TS_MARK, find_ts_packets

_PACKETS = 8192  # that are looked at together
_FIRST_PID, _NULL_PID = 0x20, 0x1FFF  # those below are tables
_MOST_PLACES = 100  # each costs a look at many packets
_MARKS = 4  # in a row that show where packets begin


class _Counters:
    """The counters of all tracks: each goes up by one from packet to packet, modulo 16.

    A table of programmes whose counter jumps to 0 begins another recording, and all anew.
    """

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self.jumps: Counter[int] = Counter()

    def take(self, packets: NDArray[np.uint8]) -> None:
        """Take packets, (N, 188) from their mark on."""
        pids = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
        flags = packets[:, 3]
        has_adaptation = (flags & 0x20 > 0) & (packets[:, 4] > 0)
        is_told = has_adaptation & (packets[:, 5] & 0x80 > 0)
        seams = np.zeros(len(packets), np.int64)
        seams[self._find(pids, flags, 0)] = 1
        seams = np.cumsum(seams)
        for pid in set(pids.tolist()):
            if not _FIRST_PID <= pid < _NULL_PID:
                continue
            places = np.flatnonzero((pids == pid) & (flags & 0x10 > 0))
            if len(places) == 0:
                continue
            counts = flags[places].astype(np.int64) & 15
            before = np.concatenate([[self._last.get(pid, counts[0])], counts[:-1]])
            steps = (counts - before) & 15
            new = np.diff(seams[places], prepend=0) > 0
            self.jumps[pid] += int(np.count_nonzero((steps > 1) & ~is_told[places] & ~new))
            self._last[pid] = int(counts[-1])

    def _find(self, pids: NDArray[np.int64], flags: NDArray[np.uint8], pid: int) -> list[int]:
        """Return the packets of a table whose counter jumps to 0."""
        places = np.flatnonzero(pids == pid)
        if len(places) == 0:
            return []
        counts = flags[places].astype(np.int64) & 15
        before = np.concatenate([[self._last.get(pid, counts[0])], counts[:-1]])
        self._last[pid] = int(counts[-1])
        found: list[int] = places[(counts == 0) & (before != 15) & (before != 0)].tolist()
        return found


def count_lost_places(file: BinaryIO) -> int:
    """Return at how many places packets of the file are missing or are none."""
    size = find_ts_packets(file)
    counters, losses = _Counters(), 0
    position = 4 if size == 192 else 0
    while size and losses < _MOST_PLACES:
        file.seek(position)
        data = np.frombuffer(file.read(size * _PACKETS), np.uint8)
        count = (len(data) + (size - 188)) // size
        if count == 0:
            break
        padded = np.pad(data, (0, count * size - len(data))) if count * size > len(data) else data
        packets = padded[: count * size].reshape(count, size)[:, :188]
        broken = np.flatnonzero(packets[:, 0] != TS_MARK)
        good = int(broken[0]) if len(broken) else count
        if good:
            counters.take(packets[:good])
        position += good * size
        if len(broken):
            found = _find_marks(data[good * size + 1 :], size)
            losses += found is not None
            position += 1 + (found if found is not None else len(data) - good * size)
    return max([losses, *counters.jumps.values()])


def _find_marks(data: NDArray[np.uint8], size: int) -> int | None:
    """Return where packets begin again, None where they do not."""
    end = len(data) - (_MARKS - 1) * size
    if end <= 0:
        return None
    marks = data == TS_MARK
    found = np.logical_and.reduce([marks[n * size : n * size + end] for n in range(_MARKS)])
    places = np.flatnonzero(found)
    return int(places[0]) if len(places) else None
