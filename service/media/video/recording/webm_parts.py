"""Find the parts of a WebM that can be decoded by themselves (RFC 8794, RFC 9559)."""

from collections.abc import Iterator
from dataclasses import dataclass

from service.media.video.recording.parts import Found

EBML, _SEGMENT, CLUSTER, _TRACKS, _TRACK = (
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
_BESIDE = (CLUSTER, b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67", b"\x11\x4d\x9b\x74")
_VIDEO = 1
_LONGEST_START = 256  # bytes until the segment of a WebM begins


def is_webm(data: bytes) -> bool:
    return len(data) > 0 and data[:4] == EBML[: len(data)]


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


def scan_webm(data: bytes) -> Found | None:
    """Return the parts of a recording; None for what is none, as a file that is all there."""
    head = _read_element(data, 0)
    segment = None if head is None or head.end is None else _read_element(data, head.end)
    if segment is None:  # a slice may end anywhere, even in the first element
        return Found(0, 0, 0) if len(data) < _LONGEST_START else None
    if segment.name != _SEGMENT or segment.end is not None:  # a whole file
        return None
    tracks: set[int] = set()
    header_end = key_start = None
    end, position, cluster = 0, segment.content, None
    while (element := _read_element(data, position)) is not None:
        if element.name == CLUSTER:
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
        return Found(0, 0, 0)
    return Found(header_end, key_start, end)


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
