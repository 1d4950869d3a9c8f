"""BMP in runs, RLE8 and RLE4: Pillow's reader loses empty rows, and refuses what stops early."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from service.media.image.damage import DAMAGED
from service.media.image.formats.bmp import RLE4, RLE8, BmpFile
from service.media.image.samples import LACKING, complete_palette
from service.media.image.types import UndecodableImage

_END_OF_LINE, _END, _SKIP = 0, 1, 2
_CODED = bytes([1]) * 256
_ENDS = (b"", b"\0", b"\0\0", b"\0\1")  # of a picture whose rows are all there


class Runs:
    """Decoded runs: `numbers` of the palette, (H, W) uint8, top row first, and which are `coded`.

    `is_cut`: the data ends before the picture does; `runs_over`: something lies beyond its edges.
    """

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._numbers, self._coded = bytearray(width * height), bytearray(width * height)
        self.is_cut = False
        self.runs_over = False

    @property
    def numbers(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._numbers, np.uint8).reshape(self._height, self._width)

    @property
    def coded(self) -> NDArray[np.bool_]:
        return np.frombuffer(self._coded, np.bool_).reshape(self._height, self._width)

    def put(self, x: int, y: int, values: bytes, padding: int) -> None:
        """Set pixels from (x, y) on; `padding` of them may lie beyond the edge."""
        room = self._width - x
        if len(values) > room:
            self.runs_over |= len(values) > room + padding
            values = values[: max(0, room)]
        start = y * self._width + x
        self._numbers[start : start + len(values)] = values
        self._coded[start : start + len(values)] = _CODED[: len(values)]


def draw_runs(
    file: ImageFile.ImageFile, data: bytes | bytearray, header: BmpFile, notes: list[str]
) -> Image.Image:
    """Return the picture of an opened file, `data`, in runs; `notes` get what is to be said.

    What is not coded is transparent, as in browsers. Raises UndecodableImage.
    """
    runs = decode_runs(data[header.offset :], *file.size, header.compression)
    if runs.is_cut:
        raise UndecodableImage("the BMP is cut short: it ends before its pixels do")
    numbers, coded = runs.numbers, runs.coded
    if not header.is_upside_down:  # not allowed, and read all the same
        numbers, coded = np.flipud(numbers), np.flipud(coded)
    notes += [DAMAGED] if runs.runs_over else []
    if file.mode == "1":  # Pillow's mode of two colours, black and white
        numbers = np.where(numbers == 1, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.ascontiguousarray(numbers))
    if file.palette is not None:
        image.putpalette(file.palette.palette, file.palette.rawmode or "RGB")
    if not coded.all():
        if complete_palette(image):
            notes.append(LACKING)
        notes.append("pixels that its coding leaves out are transparent")
        image = image.convert("RGBA")
        image.putalpha(Image.fromarray(np.ascontiguousarray(coded)))
    return image


def decode_runs(data: bytes | bytearray, width: int, height: int, kind: int) -> Runs:
    """Decode the runs in `data`, which begins with them (Microsoft, "Bitmap Compression").

    Rows and pictures may stop early, and pixels may be skipped: those are not coded.
    """
    runs = Runs(width, height)
    repeated = [_repeat(value, kind) for value in range(256)]
    padding = 1 if kind == RLE4 else 0  # runs of odd rows may fill their last byte
    at, x, y = 0, 0, height - 1
    while y >= 0:
        if at + 2 > len(data):
            runs.is_cut |= y > 0 or x < width
            return runs
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            runs.put(x, y, repeated[value][:count], padding)
            x += count
        elif value == _END_OF_LINE:
            x, y = 0, y - 1
        elif value == _END:
            return runs
        elif at + 2 > len(data):
            runs.is_cut = True
            return runs
        elif value == _SKIP:
            x, y, at = x + data[at], y - data[at + 1], at + 2
        else:
            length = value if kind == RLE8 else (value + 1) // 2
            runs.is_cut = at + length > len(data)
            runs.put(x, y, _split(data[at : at + length], value, kind), padding)
            x, at = x + value, at + length + length % 2
    runs.runs_over |= bytes(data[at : at + 2]) not in _ENDS
    return runs


def _repeat(value: int, kind: int) -> bytes:
    """Return the longest run of a value."""
    return bytes([value] * 256 if kind == RLE8 else [value >> 4, value & 15] * 128)


def _split(values: bytes | bytearray, count: int, kind: int) -> bytes:
    if kind == RLE4:
        values = bytes(number for value in values for number in (value >> 4, value & 15))
    return bytes(values[:count])
