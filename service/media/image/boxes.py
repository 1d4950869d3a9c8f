"""The colour that a HEIF or AVIF describes by codes, read from its boxes (ISO/IEC 23008-12)."""

from collections.abc import Iterator

from service.media.colour.description import Colour

_MAX_BOXES = 4096


def find_nclx(data: bytes | bytearray) -> Colour | None:
    """Return what the `colr` box of type nclx says of the primary picture; None if there is none.

    A picture with an ICC profile beside it is described by that: None.
    """
    view = memoryview(data)
    meta = _find(view, b"meta")
    if meta is None:
        return None
    meta = meta[4:]
    primary = _read_primary(_find(meta, b"pitm"))
    properties = _find(meta, b"iprp")
    if primary is None or properties is None:
        return None
    container, links = _find(properties, b"ipco"), _find(properties, b"ipma")
    if container is None or links is None:
        return None
    listed = list(_split(container))
    colours = [
        content
        for index in _read_links(links, primary)
        if 0 < index <= len(listed)
        for kind, content in (listed[index - 1],)
        if kind == b"colr"
    ]
    if any(content[:4] in (b"prof", b"rICC") for content in colours):
        return None
    for content in colours:
        if content[:4] == b"nclx" and len(content) >= 11:
            codes = [int.from_bytes(content[at : at + 2], "big") for at in (4, 6, 8)]
            return Colour.from_codes(*codes)
    return None


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
