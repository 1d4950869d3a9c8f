"""Slices of one recording, as MediaRecorder makes them: only the first has the file's header.

Reads sizes and flags of WebM elements (RFC 8794, RFC 9559) and MP4 boxes (ISO 14496-12), decodes
nothing: where the header ends, where parts begin that can be decoded by themselves, and how far
the bytes are complete.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_HEADER_BYTES = 1 << 20
_EBML, _SEGMENT, _CLUSTER, _TRACKS, _TRACK = (
    b"\x1a\x45\xdf\xa3",
    b"\x18\x53\x80\x67",
    b"\x1f\x43\xb6\x75",
    b"\x16\x54\xae\x6b",
    b"\xae",
)
_TRACK_NUMBER, _TRACK_TYPE, _SIMPLE_BLOCK, _GROUP, _BLOCK, _REFERENCE = (
    b"\xd7",
    b"\x83",
    b"\xa3",
    b"\xa0",
    b"\xa1",
    b"\xfb",
)
# Elements that stand beside clusters: they end one whose size is not told.
_BESIDE = (_CLUSTER, b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67", b"\x11\x4d\x9b\x74")
_PARTS = (b"moof", b"styp", b"sidx", b"emsg", b"prft")
_VIDEO = 1
_LONGEST_START = 256  # bytes until the segment of a WebM begins
_NOT_SYNC = 0x10000  # of the sample flags


@dataclass(frozen=True)
class Slices:
    """What is kept of a recording for its next slice: its header, and the parts since a key frame.

    `skipped` bytes lay between them: parts of an MP4 may say where they are in the whole file.
    """

    header: bytes
    carry: bytes
    skipped: int = 0

    @property
    def bytes(self) -> int:
        return len(self.header) + len(self.carry)


def is_later_slice(data: bytes) -> bool:
    """Say whether bytes begin like a slice that is not a recording's first."""
    return data[:4] == _CLUSTER or data[4:8] in _PARTS


def begins_file(data: bytes) -> bool:
    """Say whether bytes begin a WebM or MP4 of their own."""
    return _is_webm(data) or data[4:8] in (b"ftyp", b"moov")


def _is_webm(data: bytes) -> bool:
    return len(data) > 0 and data[:4] == _EBML[: len(data)]


def join(before: Slices | None, data: bytes) -> tuple[Slices, Slices | None]:
    """Return all complete parts of a slice with what comes before, and what the next one needs.

    `before` is what the slice before left, None for the first one. None comes back for a file that
    is no recording in parts; without a complete part the first ones are empty.
    """
    skipped = 0 if before is None else before.skipped
    whole = data if before is None else before.header + before.carry + data
    try:
        found = _scan_webm(whole) if _is_webm(whole) else _scan_mp4(whole)
    except (
        IndexError,
        ValueError,
        struct.error,
        RecursionError,
    ):  # not what it seems; the decoder will say
        found = None
    if found is None or found.header_end > MAX_HEADER_BYTES:
        return Slices(b"", whole), None
    if found.end == 0:  # nothing to decode yet
        header_end = 0 if before is None else len(before.header)
        return Slices(b"", b""), Slices(whole[:header_end], whole[header_end:], skipped)
    header = whole[: found.header_end]
    parts = Slices(header, whole[found.header_end : found.end], skipped)
    skipped += found.key_start - found.header_end
    return parts, Slices(header, whole[found.key_start :], skipped)


def write_slices(file: BinaryIO, slices: Slices) -> None:
    """Write a file that can be decoded; what was skipped is a hole in it."""
    file.write(slices.header)
    if slices.skipped and slices.header[:4] != _EBML:
        file.write(struct.pack("!I4sQ", 1, b"free", slices.skipped))
        file.seek(len(slices.header) + slices.skipped)
    file.write(slices.carry)


@dataclass(frozen=True)
class _Found:
    """Positions: the header's end, the last part with a key frame, the end of what is complete."""

    header_end: int
    key_start: int
    end: int


@dataclass(frozen=True)
class _Element:
    """An element of EBML; `end` None: its size is not told, or it is not all there."""

    name: bytes
    start: int
    content: int
    end: int | None


def _read_element(data: bytes, position: int) -> _Element | None:
    """Return the element at a position; None where its head is not all there."""
    if position >= len(data) or not data[position]:
        return None
    name_bytes = 9 - data[position].bit_length()
    at = position + name_bytes
    if at >= len(data) or not data[at]:
        return None
    size_bytes = 9 - data[at].bit_length()
    content = at + size_bytes
    if content > len(data):
        return None
    size = int.from_bytes(data[at:content]) & ((1 << 7 * size_bytes) - 1)
    is_told = size != (1 << 7 * size_bytes) - 1
    end = content + size if is_told and content + size <= len(data) else None
    return _Element(data[position:at], position, content, end)


def _list_elements(data: bytes, position: int, end: int) -> Iterator[_Element]:
    while position < end and (element := _read_element(data, position)) is not None:
        yield element
        if element.end is None:
            return
        position = element.end


def _scan_webm(data: bytes) -> _Found | None:
    head = _read_element(data, 0)
    segment = None if head is None or head.end is None else _read_element(data, head.end)
    if segment is None:  # a slice may end anywhere, even in the first element
        return _Found(0, 0, 0) if len(data) < _LONGEST_START else None
    if segment.name != _SEGMENT:
        return None
    tracks: set[int] = set()
    header_end = key_start = None
    end, position, cluster = 0, segment.content, None
    while (element := _read_element(data, position)) is not None:
        if element.name == _CLUSTER:
            cluster = element.start
            header_end = element.start if header_end is None else header_end
            position = element.content  # into it, whatever its size
            continue
        if element.end is None:
            break
        if element.name in _BESIDE:
            cluster = None
        if element.name == _TRACKS:
            tracks = _find_video_tracks(data, element)
        elif cluster is not None:
            if _is_key_block(data, element, tracks):
                key_start = cluster
            end = 0 if key_start is None else element.end
        position = element.end
    if header_end is None or key_start is None:
        return _Found(0, 0, 0) if segment.end is None else None
    return _Found(header_end, key_start, end)


def _find_video_tracks(data: bytes, tracks: _Element) -> set[int]:
    found = set()
    for entry in _list_elements(data, tracks.content, tracks.end or 0):
        if entry.name == _TRACK:
            facts = {
                fact.name: int.from_bytes(data[fact.content : fact.end])
                for fact in _list_elements(data, entry.content, entry.end or 0)
                if fact.name in (_TRACK_NUMBER, _TRACK_TYPE)
            }
            if facts.get(_TRACK_TYPE) == _VIDEO:
                found.add(facts.get(_TRACK_NUMBER, 0))
    return found


def _is_key_block(data: bytes, element: _Element, tracks: set[int]) -> bool:
    block, is_key = element, True
    if element.name == _GROUP:
        parts = {
            part.name: part for part in _list_elements(data, element.content, element.end or 0)
        }
        if _BLOCK not in parts:
            return False
        block, is_key = parts[_BLOCK], _REFERENCE not in parts
    elif element.name != _SIMPLE_BLOCK:
        return False
    number_bytes = 9 - data[block.content].bit_length() if data[block.content] else 9
    flags_at = block.content + number_bytes + 2
    if flags_at >= (block.end or 0):
        return False
    number = int.from_bytes(data[block.content : block.content + number_bytes])
    number &= (1 << 7 * number_bytes) - 1
    if element.name == _SIMPLE_BLOCK:
        is_key = bool(data[flags_at] & 0x80)
    return is_key and number in tracks


def _list_boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, start, start of the content and end of boxes that are all there."""
    while position + 8 <= end:
        size, kind = struct.unpack_from("!I4s", data, position)
        content = position + 8
        if size == 1 and content + 8 <= end:
            (size,) = struct.unpack_from("!Q", data, content)
            content += 8
        if size < content - position or position + size > end:
            return
        yield kind, position, content, position + size
        position += size


def _find_box(data: bytes, start: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    """Yield content and end of all boxes at a path."""
    for kind, _, content, box_end in _list_boxes(data, start, end):
        if kind == path[0]:
            if len(path) == 1:
                yield content, box_end
            else:
                yield from _find_box(data, content, box_end, *path[1:])


def _scan_mp4(data: bytes) -> _Found | None:
    tracks: dict[int, int] = {}
    header_end = key_start = part = None
    end, is_fragmented = 0, False
    for kind, start, content, box_end in _list_boxes(data, 0, len(data)):
        if kind == b"moov":
            tracks = _find_mp4_video(data, content, box_end)
            is_fragmented = any(_find_box(data, content, box_end, b"mvex"))
        if kind in _PARTS and part is None:
            part = start
            header_end = start if header_end is None else header_end
        if kind == b"moof":
            begins_with_key = _begins_with_key(data, content, box_end, tracks)
            if begins_with_key or (key_start is None and begins_with_key is not None):
                key_start = part
        if kind == b"mdat" and part is not None:
            end, part = 0 if key_start is None else box_end, None
    if not is_fragmented:
        return None
    if header_end is None or key_start is None:
        return _Found(0, 0, 0)
    return _Found(header_end, key_start, end)


def _find_mp4_video(data: bytes, start: int, end: int) -> dict[int, int]:
    """Return the sample flags that count by default, by number of a video track."""
    default = {}
    for at, _ in _find_box(data, start, end, b"mvex", b"trex"):
        number, flags = struct.unpack_from("!4xI12xI", data, at)
        default[number] = flags
    found = {}
    for content, box_end in _find_box(data, start, end, b"trak"):
        kinds = [
            data[at + 8 : at + 12] for at, _ in _find_box(data, content, box_end, b"mdia", b"hdlr")
        ]
        for at, _ in _find_box(data, content, box_end, b"tkhd"):
            number_at = at + (20 if data[at] == 1 else 12)
            if b"vide" in kinds:
                number = int.from_bytes(data[number_at : number_at + 4])
                found[number] = default.get(number, _NOT_SYNC)
    return found


def _begins_with_key(data: bytes, start: int, end: int, tracks: dict[int, int]) -> bool | None:
    """Say whether the first picture of a `moof` is a sync sample; None for one without pictures."""
    for content, box_end in _find_box(data, start, end, b"traf"):
        (head,) = [at for at, _ in _find_box(data, content, box_end, b"tfhd")]
        told, number = struct.unpack_from("!II", data, head)
        if number not in tracks:
            continue
        flags = tracks[number]
        if told & 0x20:
            skipped = sum(size for bit, size in ((1, 8), (2, 4), (8, 4), (16, 4)) if told & bit)
            (flags,) = struct.unpack_from("!I", data, head + 8 + skipped)
        for at, _ in _find_box(data, content, box_end, b"trun"):
            (told,) = struct.unpack_from("!I", data, at)
            at += 8 + (4 if told & 1 else 0)
            if told & 4:
                (flags,) = struct.unpack_from("!I", data, at)
            elif told & 0x400:
                at += (4 if told & 0x100 else 0) + (4 if told & 0x200 else 0)
                (flags,) = struct.unpack_from("!I", data, at)
            return not flags & _NOT_SYNC
    return None
