"""Properties put into a HEIF or AVIF beside those that it has (ISO/IEC 23008-12)."""

import struct
from collections.abc import Iterator

_FULL_BOX = 12  # size, kind, version and flags


def split_boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, position and size of boxes that lie one after another."""
    while start < end:
        size = int.from_bytes(data[start : start + 4])
        yield bytes(data[start + 4 : start + 8]), start, size
        start += size


def make_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack("!I4s", 8 + len(content), kind) + content


def add_properties(data: bytes, *properties: tuple[bytes, bytes]) -> bytes:
    """Return the file with more properties of its first item, (kind, content) each."""
    _, meta, meta_size = _find_meta(data)
    parts = list(split_boxes(data, meta + _FULL_BOX, meta + meta_size))
    _, iprp, iprp_size = next(box for box in parts if box[0] == b"iprp")
    (_, ipco, ipco_size), (_, ipma, ipma_size) = split_boxes(data, iprp + 8, iprp + iprp_size)
    known = len(list(split_boxes(data, ipco + 8, ipco + ipco_size)))
    container = data[ipco + 8 : ipco + ipco_size] + b"".join(make_box(*one) for one in properties)
    count_at = ipma + _FULL_BOX + 4 + 2  # behind the number of entries and the item
    count = data[count_at]
    links = bytes(0x80 | known + number for number, _ in enumerate(properties, 1))
    behind = count_at + 1 + count
    linked = data[ipma + 8 : count_at] + bytes([count + len(properties)])
    linked += data[count_at + 1 : behind] + links + data[behind : ipma + ipma_size]
    both = make_box(b"iprp", make_box(b"ipco", container) + make_box(b"ipma", linked))
    return _replace(data, b"iprp", both)


def add_reference(data: bytes, kind: bytes, source: int, target: int) -> bytes:
    """Return the file with one more link from an item to another."""
    _, meta, meta_size = _find_meta(data)
    parts = split_boxes(data, meta + _FULL_BOX, meta + meta_size)
    _, iref, iref_size = next(box for box in parts if box[0] == b"iref")
    link = make_box(kind, struct.pack("!3H", source, 1, target))
    return _replace(data, b"iref", make_box(b"iref", data[iref + 8 : iref + iref_size] + link))


def _find_meta(data: bytes) -> tuple[bytes, int, int]:
    return next(box for box in split_boxes(data, 0, len(data)) if box[0] == b"meta")


def _replace(data: bytes, name: bytes, box: bytes) -> bytes:
    """Return the file with another box in `meta`; its pixels lie behind that."""
    _, meta, meta_size = _find_meta(data)
    parts = list(split_boxes(data, meta + _FULL_BOX, meta + meta_size))
    more = len(box) - next(size for kind, _, size in parts if kind == name)
    content = b"".join(
        box
        if kind == name
        else _move_items(data[at : at + size], more)
        if kind == b"iloc"
        else data[at : at + size]
        for kind, at, size in parts
    )
    changed = make_box(b"meta", data[meta + 8 : meta + _FULL_BOX] + content)
    return data[:meta] + changed + data[meta + meta_size :]


def _move_items(iloc: bytes, more: int) -> bytes:
    """Return the box with places that lie so much later; items have one extent each."""
    assert iloc[8] == 0 and iloc[12] == 0x44, "version 0, offsets and lengths of four bytes"
    base_bytes = iloc[13] >> 4
    moved, at = bytearray(iloc), 16
    while at < len(iloc):
        place = at + 4 + base_bytes + 2  # behind the item, its source, its base and its count
        (offset,) = struct.unpack_from("!I", iloc, place)
        struct.pack_into("!I", moved, place, offset + more)
        at = place + 8
    return bytes(moved)
