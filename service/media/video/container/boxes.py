"""Boxes of MP4 and its kin (ISO 14496-12, 4.2), in bytes and in files."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_MAX_BOXES = 65_536  # fragments of hours; each is a seek


class Box(NamedTuple):
    """Where a box lies: its start, that of its content, and its end; bytes."""

    kind: bytes
    start: int
    content: int
    end: int


def list_boxes(data: bytes, position: int, end: int) -> Iterator[Box]:
    """Yield the boxes that are all there."""
    while position + 8 <= end:
        size, kind = struct.unpack_from("!I4s", data, position)
        content = position + 8
        if size == 1 and content + 8 <= end:
            (size,) = struct.unpack_from("!Q", data, content)
            content += 8
        if size < content - position or position + size > end:
            return
        yield Box(kind, position, content, position + size)
        position += size


def find_boxes(data: bytes, start: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    """Yield content and end of all boxes at a path."""
    for box in list_boxes(data, start, end):
        if box.kind == path[0]:
            if len(path) == 1:
                yield box.content, box.end
            else:
                yield from find_boxes(data, box.content, box.end, *path[1:])


def read_box(file: BinaryIO, position: int) -> tuple[bytes, int] | None:
    """Return kind and end of a box; the end is 0 for one that goes to the end of the file.

    None where there is no whole head of a box.
    """
    file.seek(position)
    head = file.read(16)
    if len(head) < 8:
        return None
    size, kind = struct.unpack("!I4s", head[:8])
    if size == 1 and len(head) == 16:
        (size,) = struct.unpack("!Q", head[8:])
    return kind, position + size if size >= 8 else 0


def walk_boxes(file: BinaryIO, position: int, end: int) -> Iterator[Box]:
    """Yield the boxes of a part of a file, the last one cut off at `end`; rubbish ends them."""
    for _ in range(_MAX_BOXES):
        box = read_box(file, position) if position < end else None
        if box is None or not (box[0].isascii() and box[0].decode().isprintable()):
            return
        kind, behind = box
        file.seek(position)
        content = position + (16 if file.read(4) == b"\0\0\0\1" else 8)
        behind = min(behind, end) if behind else end
        yield Box(kind, position, content, behind)
        position = behind


def read_inside(file: BinaryIO, box: Box, *path: bytes) -> bytes:
    """Return the content of the first box at a path inside a box of a file, empty if none is."""
    for kind in path:
        inside = walk_boxes(file, box.content, box.end)
        found = next((one for one in inside if one.kind == kind), None)
        if found is None:
            return b""
        box = found
    file.seek(box.content)
    return file.read(box.end - box.content)
