"""A clip's file as the library reads it (decoder child)."""

import os
from bisect import bisect_right
from collections.abc import Mapping
from typing import BinaryIO


class PatchedFile:
    """The clip's bytes without their name, which may choose a format; some of them changed.

    `patches`: bytes by their position; none overlap. `end`: where it ends for the library.
    """

    def __init__(
        self, file: BinaryIO, patches: Mapping[int, bytes], end: int | None = None
    ) -> None:
        self._file, self._end = file, end
        self.tell = file.tell
        self._places = sorted(patches)
        self._patches = patches

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and self._end is not None:
            offset, whence = self._end + offset, os.SEEK_SET
        return self._file.seek(offset, whence)

    def _read(self, size: int) -> bytes:
        if self._end is None:
            return self._file.read(size)
        left = max(self._end - self.tell(), 0)
        return self._file.read(left if size < 0 else min(size, left))

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
