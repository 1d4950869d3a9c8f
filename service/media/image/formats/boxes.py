"""What the boxes of a HEIF or AVIF say of its primary picture (ISO/IEC 23008-12)."""

import struct
from collections.abc import Iterator
from fractions import Fraction

from service.media.colour.description import UNSPECIFIED, Colour
from service.media.image.types import TooComplexImage

_MAX_BOXES = 4096  # a photo in tiles has some hundred; FFmpeg takes seconds for millions
_CONTAINERS = (b"meta", b"iprp", b"ipco")
# How alpha is named by AVIF and by HEVC in HEIF.
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1\0")


def check_boxes(data: bytes | bytearray) -> None:
    """Raise TooComplexImage for very many boxes at the top or around the pictures."""
    count, views = 0, [memoryview(data)]
    while views:
        for kind, content in _split(views.pop()):
            count += 1
            if kind in _CONTAINERS:
                views.append(content[4:] if kind == b"meta" else content)
        if count >= _MAX_BOXES:
            raise TooComplexImage("HEIF or AVIF", "boxes", _MAX_BOXES, count)


def find_matrix(data: bytes | bytearray) -> int:
    """Return the matrix of the primary picture by its `colr` box, whatever else describes it."""
    for kind, content in _find_properties(data):
        if kind == b"colr" and bytes(content[:4]) == b"nclx" and len(content) >= 10:
            return int.from_bytes(content[8:10], "big")
    return UNSPECIFIED


def has_alpha_item(data: bytes | bytearray) -> bool:
    """Say whether any item of the file calls itself alpha, linked to a picture or not."""
    meta = _find(memoryview(data), b"meta")
    properties = None if meta is None else _find(meta[4:], b"iprp")
    container = None if properties is None else _find(properties, b"ipco")
    kinds = [] if container is None else list(_split(container))
    names = [bytes(content[4:]) for kind, content in kinds if kind == b"auxC"]
    return any(name.startswith(_ALPHA) for name in names)


def find_nclx(data: bytes | bytearray) -> Colour | None:
    """Return what the `colr` box of type nclx says of the primary picture; None if there is none.

    A picture with an ICC profile beside it is described by that: None.
    """
    colours = [bytes(content) for kind, content in _find_properties(data) if kind == b"colr"]
    if any(content[:4] in (b"prof", b"rICC") for content in colours):
        return None
    for content in colours:
        if content[:4] == b"nclx" and len(content) >= 11:
            primaries, transfer, matrix = struct.unpack_from("!3H", content, 4)
            return Colour.from_codes(primaries, transfer, matrix)
    return None


def _find_properties(data: bytes | bytearray) -> list[tuple[bytes, memoryview]]:
    """Return kind and content of the properties of the primary picture."""
    meta = _find(memoryview(data), b"meta")
    if meta is None:
        return []
    primary, properties = _read_primary(_find(meta[4:], b"pitm")), _find(meta[4:], b"iprp")
    if primary is None or properties is None:
        return []
    container, links = _find(properties, b"ipco"), _find(properties, b"ipma")
    if container is None or links is None:
        return []
    listed = list(_split(container))
    numbers = _read_links(links, primary)
    return [listed[number - 1] for number in numbers if 0 < number <= len(listed)]


def _split(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(view):
            return
        size, kind, head = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(view[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(view) - at
        if size < head or at + size > len(view):
            return
        yield kind, view[at + head : at + size]
        at += size


def _find(view: memoryview, kind: bytes) -> memoryview | None:
    return next((content for name, content in _split(view) if name == kind), None)


def _read_primary(box: memoryview | None) -> int | None:
    if box is None or len(box) < 6:
        return None
    return int.from_bytes(box[4:6] if box[0] == 0 else box[4:8], "big")


def _read_links(box: memoryview, item: int) -> list[int]:
    """Return the numbers of an item's properties, counted from 1."""
    if len(box) < 8:
        return []
    wide_id, wide_index = box[0] >= 1, bool(box[3] & 1)
    id_bytes, index_bytes = (4 if wide_id else 2), (2 if wide_index else 1)
    at = 8
    for _ in range(min(_MAX_BOXES, int.from_bytes(box[4:8], "big"))):
        number = int.from_bytes(box[at : at + id_bytes], "big")
        at += id_bytes
        if at >= len(box):
            return []
        count, at = box[at], at + 1
        end = at + count * index_bytes
        if number == item:
            mask = 0x7FFF if wide_index else 0x7F
            return [
                int.from_bytes(box[place : place + index_bytes], "big") & mask
                for place in range(at, min(end, len(box)), index_bytes)
            ]
        at = end
    return []


def find_orientation(data: bytes | bytearray) -> int:
    """Return the EXIF orientation that `irot` and `imir` of the primary picture amount to."""
    angle, axis = 0, None
    for kind, content in _find_properties(data):
        if kind == b"irot" and len(content) >= 1:
            angle = content[0] & 3  # quarters of a turn, anticlockwise
        elif kind == b"imir" and len(content) >= 1:
            axis = content[0] & 1  # 0: top and bottom change places, 1: left and right
    if axis is None:
        return (1, 8, 3, 6)[angle]
    return ((4, 5, 2, 7) if axis == 0 else (2, 7, 4, 5))[angle]


def find_crop(data: bytes | bytearray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of what `clap` leaves of a picture (width, height).

    None where nothing is cut off, or where the box makes no sense (ISO 14496-12, 12.1.4).
    """
    content = next((content for kind, content in _find_properties(data) if kind == b"clap"), None)
    if content is None or len(content) < 32:
        return None
    numbers = struct.unpack_from("!IIIIiIiI", content)
    if 0 in numbers[1::2]:
        return None
    width, height, *offsets = map(Fraction, numbers[::2], numbers[1::2])
    sides = []
    for most, side, offset in zip(size, (width, height), offsets, strict=True):
        start = round((most - side) / 2 + offset)
        end = start + round(side)
        if not 0 <= start < end <= most:
            return None
        sides.append((start, end))
    (left, right), (top, bottom) = sides
    box = left, top, right, bottom
    return None if box == (0, 0, *size) else box


def find_coding(data: bytes | bytearray) -> bytes:
    """Return the type of the primary picture, `hvc1`, `av01`, `grid`; empty if there is none."""
    meta = _find(memoryview(data), b"meta")
    listed = None if meta is None else _find(meta[4:], b"iinf")
    if meta is None or listed is None or len(listed) < 8:
        return b""
    primary = _read_primary(_find(meta[4:], b"pitm"))
    for kind, content in _split(listed[6 if listed[0] == 0 else 8 :]):
        if kind != b"infe" or len(content) < 12 or content[0] < 2:
            continue
        wide = content[0] == 3
        if int.from_bytes(content[4 : 8 if wide else 6], "big") == primary:
            return bytes(content[10:14] if wide else content[8:12])
    return b""


def is_cut(data: bytes | bytearray) -> bool:
    """Say whether the last box at the top is longer than the file."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at >= len(data):
            break
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:
            return False
        at += max(8, size)
    return at > len(data)
