"""GIF before Pillow, which reads the blocks before the picture one by one."""

from service.media.image.types import TooComplexImage

_EXTENSION = 0x21
# Comments and profiles of ten megabytes have so many; each costs a turn of a loop in Python.
MAX_BLOCKS = 65_536


def check_blocks(data: bytes | bytearray) -> None:
    """Raise TooComplexImage for very many blocks before the first picture (GIF89a, 15 to 26)."""
    if len(data) < 13:
        return
    at = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
    count = 0
    while at + 2 < len(data) and data[at] == _EXTENSION:
        at += 2  # past the introducer and the label
        while at < len(data) and (size := data[at]):
            at += 1 + size
            count += 1
            if count > MAX_BLOCKS:
                raise TooComplexImage("GIF", "blocks", MAX_BLOCKS, count)
        at += 1
        count += 1
        if count > MAX_BLOCKS:
            raise TooComplexImage("GIF", "blocks", MAX_BLOCKS, count)
