"""Whether a clip's file is shorter than its own structure says, or longer (decoder child)."""

import os
import struct
from typing import BinaryIO

from service.media.video.container.boxes import read_box, read_inside, walk_boxes
from service.media.video.container.formats import find_ts_packets

_MAX_BOXES = 65_536  # fragments of hours; each is a seek
_FLV_TAG_HEAD, _FLV_HEAD, _FLV_TAGS, _MAX_FLV_TAGS = 11, b"FLV\x01", b"\x08\x09\x12", 1 << 20
_RIFF_HEAD = 8  # which some programs count as part of the chunk
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut(file: BinaryIO, format: str) -> bool:
    """Say whether a file ends before it should.

    Where its boxes, segments or chunks have sizes, the last one goes on behind the end; FLV ends
    with the size of its last tag, GIF with a mark, MPEG-TS with a whole packet. `format` is
    FFmpeg's name. What does not say how long it is does not count as cut.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    if format.startswith("mov"):
        return _find_end_of_boxes(file, file_bytes) > file_bytes
    if format.startswith("matroska"):
        return _find_end_of_segment(file) > file_bytes
    if format == "avi":
        return _find_end_of_chunks(file, file_bytes) > file_bytes + _RIFF_HEAD
    if format == "flv":
        return not _ends_with_tag(file, file_bytes)
    if format == "gif":
        return not _read_end(file, file_bytes).rstrip(b"\0").endswith(b";")
    return format == "mpegts" and _ends_inside_packet(file, file_bytes)


def count_unread(file: BinaryIO, format: str, last_pos: int) -> int:
    """Return how many clips lie in a file behind the one that was read, as where files were joined.

    `last_pos`: where the last packet is. Of MP4 only the first clip is read, unless it is in
    fragments and those behind it are, too; FLV is read up to the next header.
    """
    if format == "flv":
        return _count_flv(file, last_pos)
    if not format.startswith("mov"):
        return 0
    file_bytes = file.seek(0, os.SEEK_END)
    boxes = [box for box in walk_boxes(file, 0, file_bytes) if box.kind in (b"ftyp", b"moov")]
    headers = [box for box in boxes if box.kind == b"moov"]
    if not headers:
        return 0
    if read_inside(file, headers[0], b"mvex"):
        return sum(not read_inside(file, box, b"mvex") for box in headers[1:])
    return max(len(headers), len(boxes) - len(headers)) - 1


def _count_flv(file: BinaryIO, position: int) -> int:
    """Return how many headers of FLV there are behind the tag at a position."""
    count = 0
    for _ in range(_MAX_FLV_TAGS):
        file.seek(position)
        head = file.read(_FLV_TAG_HEAD)
        if len(head) < _FLV_TAG_HEAD:
            break
        if head.startswith(_FLV_HEAD):
            count += 1
            position += int.from_bytes(head[5:9]) + 4
        elif head[0] in _FLV_TAGS:
            position += _FLV_TAG_HEAD + int.from_bytes(head[1:4]) + 4
        else:
            break  # rubbish
    return count


def _find_end_of_boxes(file: BinaryIO, file_bytes: int) -> int:
    end = 0
    for _ in range(_MAX_BOXES):
        if end >= file_bytes or (box := read_box(file, end)) is None:
            break
        kind, behind = box
        if behind == 0 or not (kind.isascii() and kind.decode().isprintable()):
            break  # to the end of the file, or rubbish behind the clip
        end = behind
    return end


def _find_end_of_segment(file: BinaryIO) -> int:
    """Return where the segment of a Matroska file ends, 0 where it does not say (RFC 8794)."""
    file.seek(0)
    head = file.read(128)
    header = _read_element(head, 0)
    segment = None if header is None else _read_element(head, header[2])
    if header is None or segment is None or (header[0], segment[0]) != (_EBML, _SEGMENT):
        return 0
    return segment[2]


def _read_element(data: bytes, at: int) -> tuple[bytes, int, int] | None:
    """Return name, start of the content and end of an element; the end is 0 where it is unknown."""
    if at + 16 > len(data) or not data[at]:
        return None
    name_end = at + 9 - data[at].bit_length()
    if not data[name_end]:
        return None
    size_bytes = 9 - data[name_end].bit_length()
    content = name_end + size_bytes
    size = int.from_bytes(data[name_end:content]) & ((1 << 7 * size_bytes) - 1)
    is_told = size != (1 << 7 * size_bytes) - 1
    return data[at:name_end], content, content + size if is_told else 0


def _read_end(file: BinaryIO, file_bytes: int) -> bytes:
    file.seek(max(0, file_bytes - 16))
    return file.read(16)


def _ends_with_tag(file: BinaryIO, file_bytes: int) -> bool:
    """Say whether an FLV ends with a tag and its size."""
    size = int.from_bytes(_read_end(file, file_bytes)[-4:])
    if not _FLV_TAG_HEAD <= size <= file_bytes - 4:
        return False
    file.seek(file_bytes - 4 - size)
    return int.from_bytes(file.read(4)[1:]) == size - _FLV_TAG_HEAD


def _ends_inside_packet(file: BinaryIO, file_bytes: int) -> bool:
    size = find_ts_packets(file)
    return size > 0 and file_bytes % size > 0


def _find_end_of_chunks(file: BinaryIO, file_bytes: int) -> int:
    """Return where the last RIFF chunk of an AVI ends; large files have several."""
    end = 0
    while end < file_bytes:
        file.seek(end)
        kind, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if kind != b"RIFF" or size == 0:
            break
        end += 8 + size + size % 2
    return end
