"""Where the coded pixels of a lossy WebP end: one of up to eight places (RFC 6386, VP8)."""

_PARTS_AT = 10  # bytes before the first part, which says how all blocks are coded
_SIZE_BYTES = 3


class _BoolReader:
    """Reads bits that are coded with even odds (section 7); zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at, self._range, self._value, self._bits = 2, 255, int.from_bytes(data[:2]), 0

    def read(self, count: int) -> int:
        """Return a number of so many bits."""
        number = 0
        for _ in range(count):
            number = number << 1 | self._read_bit()
        return number

    def _read_bit(self) -> int:
        split = 1 + ((self._range - 1) * 128 >> 8)
        bit = self._value >= split << 8
        self._value -= (split << 8) * bit
        self._range = self._range - split if bit else split
        while self._range < 128:
            self._value, self._range, self._bits = (
                self._value << 1,
                self._range << 1,
                self._bits + 1,
            )
            if self._bits == 8:
                self._bits = 0
                self._value |= self._data[self._at] if self._at < len(self._data) else 0
                self._at += 1
        return int(bit)

    def skip_deltas(self, count: int, bits: int) -> None:
        """Skip numbers that may be there, each with a sign."""
        for _ in range(count):
            if self.read(1):
                self.read(bits + 1)


def find_part_ends(coded: bytes) -> list[int]:
    """Return where each part with pixels ends, in the order of the file; at least the last one."""
    first_bytes = int.from_bytes(coded[:3], "little") >> 5
    reader = _BoolReader(coded[_PARTS_AT : _PARTS_AT + first_bytes])
    reader.read(2)  # kind of colours, and whether they are clamped
    if reader.read(1):  # segments
        has_map, has_numbers = reader.read(1), reader.read(1)
        if has_numbers:
            reader.read(1)
            reader.skip_deltas(4, 7)
            reader.skip_deltas(4, 6)
        if has_map:
            reader.skip_deltas(3, 7)
    reader.read(10)  # the filter
    if reader.read(1) and reader.read(1):
        reader.skip_deltas(8, 6)
    parts = 1 << reader.read(2)
    table = _PARTS_AT + first_bytes
    at, ends = table + _SIZE_BYTES * (parts - 1), list[int]()
    for place in range(table, at, _SIZE_BYTES):
        at += int.from_bytes(coded[place : place + _SIZE_BYTES], "little")
        if at < len(coded):
            ends.append(at)
    return [*ends, len(coded)]
