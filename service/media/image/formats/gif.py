"""GIF before Pillow, which reads the blocks before the picture one by one."""

from service.media.image.types import TooComplexImage

_EXTENSION, _PICTURE = 0x21, 0x2C
# Comments and profiles of ten megabytes have so many; each costs a turn of a loop in Python.
MAX_BLOCKS = 65_536


def check_blocks(data: bytes | bytearray) -> None:
    """Raise TooComplexImage for very many blocks before the first picture (GIF89a, 15 to 26)."""
    _skip_extensions(data, _find_first(data))


def is_animation(data: bytes | bytearray) -> bool:
    """Say whether a second picture follows the first one; no, where that has very many blocks."""
    try:
        at = _skip_extensions(data, _find_first(data))
        if at + 9 >= len(data) or data[at] != _PICTURE:
            return False
        at += 10 + _count_colours(data[at + 9]) + 1  # and the size of the first code
        at, _ = _skip_blocks(data, at, 0)
        at = _skip_extensions(data, at)
    except TooComplexImage:
        return False
    return at < len(data) and data[at] == _PICTURE


def _find_first(data: bytes | bytearray) -> int:
    """Return where the blocks begin, behind the header and the colours of all pictures."""
    return 13 + _count_colours(data[10]) if len(data) >= 13 else len(data)


def _count_colours(flags: int) -> int:
    """Return how many bytes a table of colours has, by the flags that announce it."""
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _skip_extensions(data: bytes | bytearray, at: int) -> int:
    """Return where something else than an extension begins; raises TooComplexImage."""
    count = 0
    while at + 2 < len(data) and data[at] == _EXTENSION:
        at, count = _skip_blocks(data, at + 2, count)  # past the introducer and the label
    return at


def _skip_blocks(data: bytes | bytearray, at: int, count: int) -> tuple[int, int]:
    """Return what lies behind blocks and their end, and their number on top of `count`."""
    while at < len(data) and (size := data[at]):
        at, count = at + 1 + size, _count_block(count)
    return at + 1, _count_block(count)


def _count_block(count: int) -> int:
    if count == MAX_BLOCKS:
        raise TooComplexImage("GIF", "blocks", MAX_BLOCKS, count + 1)
    return count + 1
