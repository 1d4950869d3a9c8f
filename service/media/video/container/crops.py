"""The part of a clip's pictures that is shown, where its container says one (decoder child).

A clean aperture of MP4 and MOV (ISO 14496-12, 12.1.4), the cropping of Matroska (RFC 9559, 5.1.4).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

from service.media.video.container.boxes import list_boxes, read_inside, walk_boxes
from service.media.video.container.elements import TRACKS, list_elements, walk_segment

_PICTURE_ENTRY = 86  # bytes before the boxes of a sample entry
_MAX_TRACKS_BYTES = 1 << 20
_TRACK, _TYPE, _VIDEO, _PICTURES = 0xAE, 0x83, 0xE0, 1
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # left, top, right, bottom


@dataclass(frozen=True)
class Crop:
    """Pixels of coded pictures of this (width, height) that are shown: from left to right, from top
    to bottom."""

    coded: tuple[int, int]
    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def read_crop(
    file: BinaryIO, file_bytes: int, format: str, stream: Any, size: tuple[int, int]
) -> Crop | None:
    """Return what of a track is shown, None for all of it and for what makes no sense.

    `format` is FFmpeg's name, `size` width and height of the coded pictures.
    """
    sides = None
    if format.startswith("mov"):
        sides = _read_aperture(_find_entry(file, file_bytes, stream.id), size)
    elif format.startswith("matroska"):
        number = stream.container.streams.video.index(stream)
        sides = _read_margins(file, number, size)
    if sides is None or sides == (0, 0, *size):
        return None
    left, top, right, bottom = sides
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        return None
    return Crop(size, left, top, right, bottom)


def _find_entry(file: BinaryIO, file_bytes: int, track: int) -> bytes:
    """Return the description of a track's pictures, empty where there is none."""
    moov = next((box for box in walk_boxes(file, 0, file_bytes) if box.kind == b"moov"), None)
    for box in walk_boxes(file, moov.content, moov.end) if moov is not None else ():
        head = read_inside(file, box, b"tkhd") if box.kind == b"trak" else b""
        at = 20 if head[:1] == b"\1" else 12
        if head and int.from_bytes(head[at : at + 4]) == track:
            return read_inside(file, box, b"mdia", b"minf", b"stbl", b"stsd")[8:]
    return b""


def _read_aperture(entry: bytes, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    boxes = list_boxes(entry, _PICTURE_ENTRY, min(int.from_bytes(entry[:4]), len(entry)))
    found = next((box for box in boxes if box.kind == b"clap"), None)
    if found is None or found.end - found.content < 32:
        return None
    numbers = struct.unpack_from("!IIIIiIiI", entry, found.content)
    if 0 in numbers[1::2]:
        return None
    width, height, across, down = map(Fraction, numbers[::2], numbers[1::2])
    left = round((size[0] - width) / 2 + across)
    top = round((size[1] - height) / 2 + down)
    return left, top, left + round(width), top + round(height)


def _read_margins(
    file: BinaryIO, number: int, size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return what is shown of a track of pictures, which are numbered from 0 as they come."""
    for name, _, content, length in walk_segment(file):
        if name != TRACKS or length > _MAX_TRACKS_BYTES:
            continue
        file.seek(content)
        tracks = [dict(entry) for kind, entry in _list_inside(file.read(length)) if kind == _TRACK]
        pictures = [one for one in tracks if int.from_bytes(one.get(_TYPE, b"")) == _PICTURES]
        if number >= len(pictures):
            return None
        told = dict(list_elements(pictures[number].get(_VIDEO, b"")))
        left, top, right, bottom = (int.from_bytes(told.get(one, b"")) for one in _CROPS)
        return left, top, size[0] - right, size[1] - bottom
    return None


def _list_inside(data: bytes) -> Iterator[tuple[int, Iterator[tuple[int, bytes]]]]:
    """Yield the names of elements, and the elements inside."""
    for name, content in list_elements(data):
        yield name, list_elements(content)
