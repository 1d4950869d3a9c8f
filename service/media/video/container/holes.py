"""Parts that are missing from a recording whose file says neither how long it is nor what it holds.

A browser's recording in WebM, a live stream in Matroska or FLV: their pieces have no numbers. Only
the clock tells, and a pause looks the same; so audio without pauses of its own is asked for.
"""

from array import array
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.media.video.container.elements import CLUSTER, CUES, list_elements, walk_segment

_USUAL, _LEAST_S = 4, 0.2  # distances of audio packets, or seconds, that make a hole
_SHARE = 0.5  # of a hole in which no other track has anything either
_CUE_POINT, _CUE_PLACES, _CUE_CLUSTER = 0xBB, 0xB7, 0xF1
_MAX_CUES_BYTES = 1 << 20


class HoleWatch:
    """Remembers when packets are shown, and finds where all tracks stop at once.

    `FORMATS`: FFmpeg's names of those without an index of all pieces begin so.
    """

    FORMATS = ("matroska", "flv")

    def __init__(self) -> None:
        self._times_s: dict[int, array[float]] = {}
        self._sounds: set[int] = set()

    def take(self, packet: Any) -> None:
        index = packet.stream.index
        if packet.pts is not None:
            self._times_s.setdefault(index, array("d")).append(float(packet.pts * packet.time_base))
        if packet.stream.type == "audio":
            self._sounds.add(index)

    def count(self, file: BinaryIO) -> int:
        """Return at how many places a part is missing; 0 where an index says that none is."""
        times_s = {index: np.sort(np.asarray(times)) for index, times in self._times_s.items()}
        found = [_count_holes(index, times_s) for index in self._sounds & times_s.keys()]
        most = max(found, default=0)
        return 0 if most == 0 or has_sound_index(file) else most


def _count_holes(sound: int, times_s: dict[int, NDArray[np.float64]]) -> int:
    """Return the holes of one track of audio; 0 if it also stops while another track goes on."""
    times = times_s[sound]
    steps = np.diff(times)
    if len(steps) == 0:
        return 0
    usual_s = float(np.sort(steps)[len(steps) // 2])  # `median` would import more
    holes = np.flatnonzero(steps > max(_USUAL * usual_s, _LEAST_S))
    for hole in holes.tolist():
        start, end = times[hole], times[hole + 1]
        for index, other in times_s.items():
            inside = other[(other > start) & (other < end)]
            longest = np.diff(np.concatenate([[start], inside, [end]])).max()
            if index != sound and longest < _SHARE * (end - start):
                return 0
    return len(holes)


def has_sound_index(file: BinaryIO) -> bool:
    """Say whether a Matroska has an index (Cues), and each cluster of it is where that says."""
    clusters, cues, begin = set[int](), b"", None
    for name, at, content, size in walk_segment(file):
        begin = at if begin is None else begin
        if name == CLUSTER:
            clusters.add(at - begin)
        elif name == CUES and size <= _MAX_CUES_BYTES:
            file.seek(content)
            cues = file.read(size)
    places = [
        int.from_bytes(place)
        for point, inside in list_elements(cues)
        if point == _CUE_POINT
        for kind, track in list_elements(inside)
        if kind == _CUE_PLACES
        for detail, place in list_elements(track)
        if detail == _CUE_CLUSTER
    ]
    return bool(places) and set(places) <= clusters
