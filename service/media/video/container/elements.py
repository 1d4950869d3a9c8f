"""Elements of EBML (RFC 8794), of which Matroska and WebM consist (RFC 9559)."""

import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

# Kinds of files, which stand in their headers.
_KINDS, _HEADER_BYTES = (b"\x42\x82\x84webm", b"\x42\x82\x88matroska"), 128
_CHECKSUM, _CHECKSUM_BYTES = 0xBF, 6
_MAX_PIECES, _BLOCK = 1 << 16, 1 << 20
EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
CUES, TRACKS = 0x1C53BB6B, 0x1654AE6B


def read_element(head: bytes) -> tuple[int, int, int] | None:
    """Return name, place of the content and size of an element; None where there is none."""
    if not head:
        return None
    name_bytes = 9 - head[0].bit_length()
    if not 1 <= name_bytes <= 4 or name_bytes >= len(head) or not head[name_bytes]:
        return None
    content = name_bytes + 9 - head[name_bytes].bit_length()
    mask = (1 << 7 * (content - name_bytes)) - 1
    size = int.from_bytes(head[name_bytes:content]) & mask
    return int.from_bytes(head[:name_bytes]), content, size


def _count_name_bytes(name: int) -> int:
    return (name.bit_length() + 7) // 8


def list_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield name and content of elements that follow one another."""
    at = 0
    while (element := read_element(data[at : at + 16])) is not None:
        name, content, size = element
        yield name, data[at + content : at + content + size]
        at += content + size


def walk_segment(file: BinaryIO, at: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield name, start, place of the content and size of what lies in the segment of a file.

    The file, one of several that were joined, begins at a place. Rubbish and elements of unknown
    size end it.
    """
    is_inside, file_bytes = False, file.seek(0, os.SEEK_END)
    for _ in range(_MAX_PIECES):
        file.seek(min(at, file_bytes))
        element = read_element(file.read(16))
        if element is None or (is_inside and element[0] == EBML):
            return
        name, content, size = element
        if is_inside:
            yield name, at, at + content, size
            if size + 1 == 1 << 7 * (content - _count_name_bytes(name)):  # which says: unknown
                return
        is_inside = is_inside or name == SEGMENT
        at += content + (0 if name == SEGMENT else size)


def count_wrong_checksums(file: BinaryIO) -> int:
    """Return how many clusters of a Matroska do not have the CRC-32 that they state."""
    wrong = 0
    for name, _, at, size in walk_segment(file):
        file.seek(at)
        head = file.read(_CHECKSUM_BYTES)
        if name != CLUSTER or head[:2] != bytes([_CHECKSUM, 0x84]):
            continue
        checksum, left = 0, size - _CHECKSUM_BYTES
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        wrong += left == 0 and checksum != int.from_bytes(head[2:], "little")
    return wrong


def find_headers(file: BinaryIO) -> Iterator[int]:
    """Yield where the files begin of which a file was joined."""
    start, magic = 0, EBML.to_bytes(4)
    while True:
        file.seek(start)
        data = file.read(_BLOCK)
        places = set[int]()
        for kind in _KINDS:
            at = data.find(kind)
            while at >= 0:
                places.add(data.rfind(magic, max(at - _HEADER_BYTES, 0), at))
                at = data.find(kind, at + 1)
        # One that begins near the end of a block is found in the next.
        yield from (start + at for at in sorted(places) if 0 <= at < _BLOCK - _HEADER_BYTES)
        if len(data) < _BLOCK:
            return
        start += _BLOCK - _HEADER_BYTES
