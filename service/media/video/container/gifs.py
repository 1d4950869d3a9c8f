"""What the library paints in the background of a GIF, and no browser: the colour of its header.

It leaves the background transparent where a frame has a transparent colour. So frames get one that
none of their pixels has: behind the end of their palette (GIF89a, 23).
"""

from typing import BinaryIO, NamedTuple

from service.media.video.structure import count_colours, skip_blocks

_MAX_FRAMES, _MAX_COLOURS = 1 << 16, 256
_EXTENSION, _CONTROL, _IMAGE = 0x21, 0xF9, 0x2C
_DISPOSALS = (2, 3)  # which bring the background back, or what was before


class _Frame(NamedTuple):
    """Where its control extension is, what that says, its size, and the colours of its palette."""

    at: int
    flags: int
    size: tuple[int, int]
    colours: int


def find_backgrounds(file: BinaryIO) -> dict[int, bytes]:
    """Return the bytes of a GIF to change by their position; none where all is painted over."""
    file.seek(0)
    head = file.read(13)
    if not head.startswith(b"GIF8") or len(head) < 13:
        return {}
    frames = _list_frames(file, 13 + 3 * count_colours(head[10:11]), count_colours(head[10:11]))
    canvas = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if not frames or not (
        frames[0].size != canvas or any(one.flags >> 2 & 7 in _DISPOSALS for one in frames)
    ):
        return {}
    patches = {}
    for frame in frames:
        if not frame.flags & 1 and 0 < frame.colours < _MAX_COLOURS:
            patches[frame.at] = bytes([frame.flags | 1])
            patches[frame.at + 3] = bytes([_MAX_COLOURS - 1])
    return patches


def _list_frames(file: BinaryIO, at: int, colours: int) -> list[_Frame]:
    """Return the frames that have a control extension, up to where the file makes no sense."""
    frames, control = list[_Frame](), None
    for _ in range(_MAX_FRAMES):
        file.seek(at)
        head = file.read(10)
        if head[:1] == bytes([_EXTENSION]):
            if len(head) > 7 and head[1] == _CONTROL:
                control = at + 3, head[3]
            at = skip_blocks(file, at + 2)
        elif head[:1] == bytes([_IMAGE]) and len(head) == 10:
            own = count_colours(head[9:10])
            if control is not None:
                size = int.from_bytes(head[5:7], "little"), int.from_bytes(head[7:9], "little")
                frames.append(_Frame(*control, size, own or colours))
            control, at = None, skip_blocks(file, at + 11 + 3 * own)
        else:
            break
    return frames
