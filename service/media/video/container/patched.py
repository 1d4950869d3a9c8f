"""A clip's file as the library reads it (decoder child)."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import BinaryIO


class PatchedFile:
    """The clip's bytes without their name, which may choose a format; some of them changed.

    `patches`: bytes by their position; none overlap.
    """

    def __init__(self, file: BinaryIO, patches: Mapping[int, bytes]) -> None:
        self._read = file.read
        self.seek = file.seek
        self.tell = file.tell
        self._places = sorted(patches)
        self._patches = patches

    def read(self, size: int = -1) -> bytes:
        if not self._places:
            return self._read(size)
        start = self.tell()
        data = self._read(size)
        number = max(bisect_right(self._places, start) - 1, 0)
        while number < len(self._places) and (at := self._places[number]) < start + len(data):
            patch = self._patches[at]
            first, end = max(at, start), min(at + len(patch), start + len(data))
            if first < end:
                changed = patch[first - at : end - at]
                data = data[: first - start] + changed + data[end - start :]
            number += 1
        return data
