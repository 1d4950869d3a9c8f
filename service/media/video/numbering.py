"""Pictures of H.264 that are missing between two others, by their numbers (ITU-T H.264).

Decoders predict what follows from other pictures than were meant, and say nothing.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

_SLICES, _IDR, _SPS, _PPS = (1, 5), 5, 7, 8
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_YUV444 = 3
_INTRA = (2, 7)  # types of slices
_HEADER_BYTES, _SET_BYTES = 32, 512
_MOST_UNITS = 32  # of a packet before its pixels
_AVCC = 1  # the first byte of a description whose units have lengths before them


class _Sequence(NamedTuple):
    """What a sequence parameter set says of numbers: their bits, and whether some are left out."""

    bits: int
    may_leave_out: bool
    has_planes: bool


class NumberWatch:
    """Counts the places where the numbers of pictures jump; `places`.

    Where a picture can be shown without others, as where clips were joined, the numbers begin anew.
    """

    def __init__(self, extradata: bytes) -> None:
        self.places = 0
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int] = {}  # by picture parameter set, its sequence
        self._last: int | None = None  # of the last picture that others refer to
        self._last_is_intra = False
        self._length_bytes = 0
        if extradata[:1] == bytes([_AVCC]) and len(extradata) > 6:
            self._length_bytes = (extradata[4] & 3) + 1
            for unit in _list_sets(extradata):
                self._take_set(unit)
        else:
            for unit in _split_by_codes(memoryview(extradata)):
                self._take_set(unit)

    def take(self, packet: Any) -> None:
        """Look at a packet before it is decoded."""
        data = memoryview(packet)
        units = self._split_by_lengths(data) if self._length_bytes else _split_by_codes(data)
        for unit in islice(units, _MOST_UNITS):
            if unit[0] & 31 in _SLICES:
                self._take_slice(unit, is_key=bool(packet.is_keyframe))
                return
            self._take_set(unit)

    def _split_by_lengths(self, data: memoryview) -> Iterator[bytes]:
        at = 0
        while at + self._length_bytes < len(data):
            start = at + self._length_bytes
            at = start + int.from_bytes(data[at:start])
            if start == at:
                return
            yield bytes(data[start : min(at, start + _SET_BYTES)])

    def _take_set(self, unit: bytes) -> None:
        kind, bits = unit[0] & 31, _Bits(unit[1:])
        try:
            if kind == _SPS:
                number, sequence = _read_sequence(bits)
                self._sequences[number] = sequence
            elif kind == _PPS:
                number = bits.read_ue()
                self._pictures[number] = bits.read_ue()
        except IndexError:
            return

    def _take_slice(self, unit: bytes, *, is_key: bool) -> None:
        bits = _Bits(unit[1:_HEADER_BYTES])
        try:
            is_first = bits.read_ue() == 0
            is_intra = bits.read_ue() in _INTRA
            sequence = self._sequences.get(self._pictures.get(bits.read_ue(), -1))
            if sequence is None or not is_first:
                self._last = None
                return
            if sequence.has_planes:
                bits.read(2)
            number = bits.read(sequence.bits)
        except IndexError:
            self._last = None
            return
        if not (is_key or sequence.may_leave_out or self._last is None):
            follows = number in (self._last, (self._last + 1) % (1 << sequence.bits))
            # Behind a picture that forgets all others numbers begin anew.
            self.places += not follows and not (self._last_is_intra and number <= 1)
            self._last = self._last if follows else None
        if unit[0] & 0x60 or self._last is None or is_key:
            self._last, self._last_is_intra = number, is_intra


class _Bits:
    """Bits of a unit without its emulation prevention (7.3.1); raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def read(self, count: int) -> int:
        end = self._at + count
        if end > 8 * len(self._data):
            raise IndexError
        window = int.from_bytes(self._data[self._at // 8 : (end + 7) // 8])
        self._at = end
        return window >> (-end % 8) & ((1 << count) - 1)

    def read_ue(self) -> int:
        """Return an unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 31:
                raise IndexError
        return (1 << zeros) - 1 + self.read(zeros)

    def read_se(self) -> int:
        code = self.read_ue()
        return (code + 1) // 2 * (1 if code % 2 else -1)


def _read_sequence(bits: _Bits) -> tuple[int, _Sequence]:
    """Return the number of a sequence parameter set and what it says (7.3.2.1.1)."""
    profile = bits.read(8)
    bits.read(16)
    number, has_planes = bits.read_ue(), False
    if profile in _HIGH_PROFILES:
        chroma = bits.read_ue()
        has_planes = chroma == _YUV444 and bool(bits.read(1))
        bits.read_ue(), bits.read_ue(), bits.read(1)
        if bits.read(1):
            for index in range(12 if chroma == _YUV444 else 8):
                if bits.read(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    number_bits, order = bits.read_ue() + 4, bits.read_ue()
    if order == 0:
        bits.read_ue()
    elif order == 1:
        bits.read(1), bits.read_se(), bits.read_se()
        for _ in range(bits.read_ue()):
            bits.read_se()
    bits.read_ue()
    if number_bits > 16:
        raise IndexError
    return number, _Sequence(number_bits, bool(bits.read(1)), has_planes)


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_se()) % 256
        last = following or last


def _list_sets(avcc: bytes) -> Iterator[bytes]:
    """Yield the parameter sets of an `avcC` (ISO 14496-15, 5.3.3.1)."""
    at, left = 6, avcc[5] & 31
    for _ in range(2):
        for _ in range(left):
            end = at + 2 + int.from_bytes(avcc[at : at + 2])
            if end > at + 2 and end <= len(avcc):
                yield avcc[at + 2 : end]
            at = end
        left, at = (avcc[at] if at < len(avcc) else 0), at + 1


def _split_by_codes(data: memoryview) -> Iterator[bytes]:
    """Yield the beginnings of the units that follow start codes (annex B)."""
    head = bytes(data[: 1 << 16])
    at = head.find(b"\0\0\1")
    while 0 <= at and at + 3 < len(head):
        following = head.find(b"\0\0\1", at + 3)
        end = len(head) if following < 0 else following
        yield head[at + 3 : min(end, at + 3 + _SET_BYTES)]
        at = following
