"""TIFF before Pillow: which of its pages is the picture, and what is not read.

Pillow takes the first directory. Cameras and scanners put a thumbnail there and the picture behind
it or into a sub-directory (TIFF 6.0, NewSubfileType; TIFF/EP, SubIFDs).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ImagePalette, TiffImagePlugin

from service.media.image.formats.directories import MAX_TAGS
from service.media.image.types import TooComplexImage, UndecodableImage, UnknownFormat

_MAX_PAGES = 64
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS = 254, 255, 256, 257, 258
_COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SUB_IFDS = 259, 262, 277, 284, 330
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_COLOUR_MAP, _FORMAT, _DNG_VERSION = 320, 339, 50706
_CFA, _LINEAR_RAW = 32803, 34892
_REDUCED, _MASK = 1, 4
# How many values are looked at: a file can have each of its tags claim all of its bytes.
_MAX_VALUES = dict.fromkeys((_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES), 65_536)
_FEW_VALUES = 64
# Bytes of one value, by the number of its type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_WEBP = 50001
_COMPRESSIONS = {
    1: "none",
    6: "old JPEG",
    7: "JPEG",
    34712: "JPEG 2000",
    34933: "PNG",
    34934: "JPEG XR",
    50002: "JPEG XL",
    52546: "JPEG XL",
    _WEBP: "WebP",
    50000: "Zstandard",
    34925: "LZMA",
    34887: "LERC",
    34676: "LogLuv",
}


@dataclass(frozen=True)
class _Entry:
    type: int
    count: int
    raw: memoryview  # the values, as the file has them


@dataclass(frozen=True)
class Page:
    """One directory: where it lies, and its tags as whole numbers, those that are."""

    offset: int
    tags: dict[int, tuple[int, ...]]
    is_cut: bool = False  # a tag lies behind the end of the file

    def get(self, tag: int, default: int = 0) -> int:
        return self.tags.get(tag, (default,))[0] if self.tags.get(tag) else default

    @property
    def is_reduced(self) -> bool:
        return bool(self.get(_SUBFILE) & (_REDUCED | _MASK)) or self.get(_OLD_SUBFILE) == 2

    @property
    def pixels(self) -> int:
        return self.get(_WIDTH) * self.get(_HEIGHT)

    @property
    def is_raw(self) -> bool:
        is_raw = self.get(_PHOTOMETRIC) in (_CFA, _LINEAR_RAW)
        return is_raw or _DNG_VERSION in self.tags

    @property
    def needs_libtiff(self) -> bool:
        """Whether Pillow's own reader takes planes of more than 8 bits for mixed samples."""
        is_planar = self.get(_PLANAR, 1) == 2 and self.get(_SAMPLES, 1) > 1
        return is_planar and self.get(_BITS, 1) > 8

    @property
    def is_signed_byte(self) -> bool:
        return self.get(_FORMAT, 1) == 2 and self.get(_BITS, 1) == 8

    @property
    def has_unread_pixels(self) -> bool:
        """Whether a library that understands the header has no decoder for the pixels."""
        return self.get(_COMPRESSION, 1) == _WEBP

    @property
    def data_end(self) -> int:
        """Where the last piece of its pixels that is listed ends."""
        starts = self.tags.get(_STRIPS) or self.tags.get(_TILES) or ()
        counts = self.tags.get(_STRIP_BYTES) or self.tags.get(_TILE_BYTES) or ()
        return max((sum(pair) for pair in zip(starts, counts, strict=False)), default=0)

    @property
    def layout(self) -> str:
        """For people: `3 samples of 32 bits, float, compression LZMA`."""
        number = self.get(_COMPRESSION, 1)
        kind = {1: "", 2: ", signed", 3: ", float"}.get(self.get(_FORMAT, 1), "")
        return (
            f"{self.get(_SAMPLES, 1)} samples of {self.get(_BITS, 1)} bits{kind}, compression "
            f"{_COMPRESSIONS.get(number, number)}, photometric {self.get(_PHOTOMETRIC)}"
        )


def choose_page(data: bytes | bytearray) -> tuple[bytes | bytearray, Page | None, int]:
    """Return the file with its picture as the first page, and that page; None: left to Pillow.

    The last is how many pages have pictures, small versions of others left out.
    Raises UnknownFormat for a camera's raw file, TooComplexImage for very many tags.
    """
    if bytes(data[8:10]) == b"CR" and data[:2] == b"II":
        raise refuse_raw("CR2")
    reader = _Reader(data)
    pages = list(reader.walk())
    if not pages:
        return data, None, 0
    if any(page.is_raw for page in pages):
        is_dng = any(_DNG_VERSION in page.tags for page in pages)
        raise refuse_raw("DNG" if is_dng else "with the pattern of a sensor, CFA")
    full = [page for page in pages if not page.is_reduced and page.pixels > 0]
    page = full[0] if full else max(pages, key=lambda one: one.pixels)
    if reader.is_big and reader.order == ">":
        return reader.rewrite(page), page, len(full)
    if page is not pages[0]:
        return reader.point_at(page), page, len(full)
    return data, page, len(full)


def fix_palette(file: TiffImagePlugin.TiffImageFile, page: Page | None) -> None:
    """Read a colour map of 8 bits as what it is; the specification has 16, and Pillow halves it."""
    colours = file.tag_v2.get(_COLOUR_MAP)
    if page is None or not colours or file.mode not in ("P", "PA") or max(colours) > 255:
        return
    file.palette = ImagePalette.raw("RGB;L", bytes(colours))


def refuse_raw(kind: str) -> UnknownFormat:
    """Return the refusal of a camera's raw file; `kind`: what the format is called."""
    return UnknownFormat(
        f"this is a camera's raw file ({kind}), which is not read; develop it to JPEG, or send the "
        "JPEG that the camera wrote"
    )


class _Reader:
    """The directories of a file of either byte order and offset size."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.is_big = self._read("H", 2) == 43
        self._is_cut = False

    def walk(self) -> Iterator[Page]:
        """Yield the pages of the chain, after each its sub-directories."""
        seen: set[int] = set()
        at = self._read("Q", 8) if self.is_big else self._read("I", 4)
        while at and at not in seen and len(seen) < _MAX_PAGES:
            seen.add(at)
            found = self._read_page(at)
            if found is None:
                return
            page, at = found
            yield page
            for place in page.tags.get(_SUB_IFDS, ()):
                if place not in seen and len(seen) < _MAX_PAGES:
                    seen.add(place)
                    if below := self._read_page(place):
                        yield below[0]

    def point_at(self, page: Page) -> bytes:
        """Return the file with this page as its first one."""
        at, code = (8, "Q") if self.is_big else (4, "I")
        end = at + struct.calcsize(code)
        place = struct.pack(self.order + code, page.offset)
        return bytes(self._data[:at]) + place + bytes(self._data[end:])

    def rewrite(self, page: Page) -> bytes:
        """Return a BigTIFF, which Pillow reads in one byte order, as a classic TIFF.

        Raises UndecodableImage where it is too large for that.
        """
        if len(self._data) > 2**31:
            raise UndecodableImage("a big-endian BigTIFF of over 2 GiB is not read")
        entries, tail = b"", b""
        listed = sorted(self._list(page.offset)[0].items())
        if sum(len(entry.raw) for _, entry in listed) > 2 * len(self._data):
            raise UndecodableImage("the tags of the TIFF lie over each other")
        start = len(self._data) + len(self._data) % 2
        behind = start + 2 + 12 * len(listed) + 4
        for tag, entry in listed:
            type, raw = entry.type, bytes(entry.raw)
            if type in (16, 17, 18):
                values = struct.unpack(f">{len(raw) // 8}Q", raw)
                type, raw = 4, struct.pack(f">{len(values)}I", *(v & 0xFFFFFFFF for v in values))
            if len(raw) > 4:
                place = struct.pack(">I", behind + len(tail))
                tail += raw + bytes(len(raw) % 2)
            else:
                place = raw.ljust(4, b"\0")
            entries += struct.pack(">HHI", tag, type, len(raw) // _SIZES[type]) + place
        head = b"MM\0*" + struct.pack(">I", start) + bytes(self._data[8:])
        directory = struct.pack(">H", len(listed)) + entries + bytes(4) + tail
        return head.ljust(start, b"\0") + directory

    def _read(self, code: str, at: int) -> int:
        """Return a number, 0 where the file has ended."""
        try:
            return int(struct.unpack_from(self.order + code, self._data, at)[0])
        except (struct.error, OverflowError):
            return 0

    def _read_page(self, at: int) -> tuple[Page, int] | None:
        self._is_cut = False
        entries, following = self._list(at)
        if not entries:
            return None
        tags = {}
        for tag, entry in entries.items():
            if code := _CODES.get(entry.type):
                most = _MAX_VALUES.get(tag, _FEW_VALUES)
                count = min(most, len(entry.raw) // _SIZES[entry.type])
                tags[tag] = struct.unpack_from(f"{self.order}{count}{code}", entry.raw)
        return Page(at, tags, self._is_cut), following

    def _list(self, at: int) -> tuple[dict[int, _Entry], int]:
        """Return the entries of a directory and where the next one lies.

        Raises TooComplexImage.
        """
        if self.is_big:
            count, at, size, inline = self._read("Q", at), at + 8, 20, 8
        else:
            count, at, size, inline = self._read("H", at), at + 2, 12, 4
        if count > MAX_TAGS and at + MAX_TAGS * size < len(self._data):
            raise TooComplexImage("TIFF", "tags", MAX_TAGS, count)
        view, entries = memoryview(self._data), dict[int, _Entry]()
        for number in range(min(count, MAX_TAGS)):
            place = at + number * size
            tag, type = self._read("H", place), self._read("H", place + 2)
            length = self._read("Q" if self.is_big else "I", place + 4)
            bytes_ = length * _SIZES.get(type, 0)
            start = place + size - inline
            if bytes_ > inline:
                start = self._read("Q" if self.is_big else "I", start)
            if bytes_ == 0 or start + bytes_ > len(self._data):
                self._is_cut = self._is_cut or bytes_ > 0
                continue
            entries[tag] = _Entry(type, length, view[start : start + bytes_])
        end = at + min(count, MAX_TAGS) * size
        return entries, self._read("Q" if self.is_big else "I", end)


def find_page(data: bytes | bytearray) -> Page | None:
    """Return the page that is the picture, None where there is no directory or no picture."""
    try:
        return choose_page(data)[1]
    except (TooComplexImage, UnknownFormat, UndecodableImage):
        return None
