"""BMP in runs, RLE8 and RLE4: Pillow's reader loses empty rows, and refuses what stops early."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from service.media.image.damage import DAMAGED
from service.media.image.formats.bmp import RLE4, RLE8, BmpFile
from service.media.image.samples import LACKING, complete_palette
from service.media.image.types import UndecodableImage

_END_OF_LINE, _END, _SKIP = 0, 1, 2


@dataclass(eq=False)
class Runs:
    """Decoded runs.

    `numbers` of the palette, (H, W) uint8, top row first, and which of them are `coded`, bool.
    `is_cut`: the data ends before the picture does; `runs_over`: something lies beyond its edges.
    """

    numbers: NDArray[np.uint8]
    coded: NDArray[np.bool_]
    is_cut: bool = False
    runs_over: bool = False


def draw_runs(
    file: ImageFile.ImageFile, data: bytes | bytearray, header: BmpFile, notes: list[str]
) -> Image.Image:
    """Return the picture of an opened file, `data`, in runs; `notes` get what is to be said.

    What is not coded is transparent, as in browsers. Raises UndecodableImage.
    """
    runs = decode_runs(data[header.offset :], *file.size, header.compression)
    if not header.is_upside_down:  # not allowed, and read all the same
        runs.numbers, runs.coded = np.flipud(runs.numbers), np.flipud(runs.coded)
    if runs.is_cut:
        raise UndecodableImage("the BMP is cut short: it ends before its pixels do")
    notes += [DAMAGED] if runs.runs_over else []
    numbers = runs.numbers
    if file.mode == "1":  # Pillow's mode of two colours, black and white
        numbers = np.where(numbers == 1, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.ascontiguousarray(numbers))
    if file.palette is not None:
        image.putpalette(file.palette.palette, file.palette.rawmode or "RGB")
    if not runs.coded.all():
        if complete_palette(image):
            notes.append(LACKING)
        notes.append("pixels that its coding leaves out are transparent")
        image = image.convert("RGBA")
        image.putalpha(Image.fromarray(np.ascontiguousarray(runs.coded)))
    return image


def decode_runs(data: bytes | bytearray, width: int, height: int, kind: int) -> Runs:
    """Decode the runs in `data`, which begins with them (Microsoft, "Bitmap Compression").

    Rows and pictures may stop early, and pixels may be skipped: those are not coded.
    """
    runs = Runs(np.zeros((height, width), np.uint8), np.zeros((height, width), np.bool_))
    padding = 1 if kind == RLE4 else 0  # runs of odd rows may fill their last byte
    at, x, y = 0, 0, height - 1
    while True:
        if at + 2 > len(data):
            runs.is_cut = y > 0 or (y == 0 and x < width)
            break
        count, value = data[at], data[at + 1]
        at += 2
        if count == 0 and value == _END_OF_LINE:
            x, y = 0, y - 1
            continue
        if count == 0 and value == _END:
            break
        if count == 0 and value == _SKIP:
            if at + 2 > len(data):
                runs.is_cut = True
                break
            x, y, at = x + data[at], y - data[at + 1], at + 2
            continue
        if count:
            values = _repeat(value, count, kind)
        else:
            length = value if kind == RLE8 else (value + 1) // 2
            values = _split(data[at : at + length], value, kind)
            at += length + length % 2
        runs.is_cut = at > len(data)
        runs.runs_over |= y < 0 or x + len(values) > width + padding
        if y >= 0 and x < width:
            end = min(width, x + len(values))
            runs.numbers[y, x:end] = values[: end - x]
            runs.coded[y, x:end] = True
        x += len(values)
        if runs.is_cut or y < 0:
            break
    return runs


def _repeat(value: int, count: int, kind: int) -> NDArray[np.uint8]:
    pair = [value, value] if kind == RLE8 else [value >> 4, value & 15]
    return np.resize(np.array(pair, np.uint8), count)


def _split(values: bytes | bytearray, count: int, kind: int) -> NDArray[np.uint8]:
    found = np.frombuffer(bytes(values), np.uint8)
    if kind == RLE4:
        found = np.stack([found >> 4, found & 15], 1).reshape(-1)
    return found[:count]
