"""BMP in runs (RLE8, RLE4): rows and pictures that stop early, pixels that are skipped."""

import struct

import numpy as np
import pytest

from service.media.image.damage import DAMAGED
from service.media.image.types import UndecodableImage
from tests.stills import read

PALETTE = [(200, 30, 40), (20, 120, 200), (240, 240, 60), (10, 10, 10)]
LINE, END = b"\0\0", b"\0\1"
SKIPPED = "pixels that its coding leaves out are transparent"
HOLE = -1


def make_bmp(
    runs: bytes, size: tuple[int, int], bits: int = 8, palette=PALETTE, gap: bytes = b""
) -> bytes:
    """Return a BMP of (width, height), its lowest row first; `gap` lies before the runs."""
    colours = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    offset = 54 + len(colours) + len(gap)
    head = struct.pack("<2sIHHI", b"BM", offset + len(runs), 0, 0, offset)
    kind = 1 if bits == 8 else 2
    head += struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, kind, len(runs), 0, 0, len(palette), 0)
    return head + colours + gap + runs


def check(data: bytes, rows: list[list[int]], *notes: str) -> None:
    """Compare a picture with numbers of its palette, top row first."""
    picture = read(data)
    numbers = np.array(rows)
    wanted = np.array([*PALETTE, (255, 255, 255)])[numbers]
    assert np.array_equal(picture.image, wanted)
    if (numbers == HOLE).any():
        assert np.array_equal(picture.alpha, np.where(numbers == HOLE, 0, 255))
    else:
        assert picture.alpha is None
    assert picture.notes == notes and picture.rows_there == 1


def test_whole_runs() -> None:
    runs = b"\4\1" + LINE + b"\2\0\2\2" + LINE + b"\0\4\3\2\1\0" + END
    last = runs[:-2]
    for data in (make_bmp(each, (4, 3)) for each in (runs, last, last + LINE, last + LINE + END)):
        check(data, [[3, 2, 1, 0], [0, 0, 2, 2], [1, 1, 1, 1]])
    few = b"\5\x12" + LINE + b"\0\5\x30\x12\x30\0" + END
    check(make_bmp(few, (5, 2), 4), [[3, 0, 1, 2, 3], [1, 2, 1, 2, 1]])


def test_runs_from_the_top_on() -> None:
    runs = b"\4\1" + LINE + b"\2\2" + END
    check(make_bmp(runs, (4, -2)), [[1] * 4, [2, 2, HOLE, HOLE]], SKIPPED)


def test_single_pixels_of_odd_number_are_aligned_from_where_the_runs_begin() -> None:
    runs = b"\0\3\1\2\3\0\1\0" + LINE + b"\4\2" + END
    for gap in (b"", b"\0"):
        check(make_bmp(runs, (4, 2), gap=gap), [[2, 2, 2, 2], [1, 2, 3, 0]])


def test_rows_that_stop_early() -> None:
    runs = b"\2\1" + LINE + LINE + b"\4\2" + END
    rows = [[2, 2, 2, 2], [HOLE] * 4, [1, 1, HOLE, HOLE]]
    check(make_bmp(runs, (4, 3)), rows, SKIPPED)


def test_picture_that_stops_early() -> None:
    runs = b"\4\1" + LINE + b"\3\2" + END
    rows = [[HOLE] * 4, [2, 2, 2, HOLE], [1, 1, 1, 1]]
    check(make_bmp(runs, (4, 3)), rows, SKIPPED)


def test_skipped_pixels() -> None:
    runs = b"\1\1\0\2\2\1\1\3" + LINE + b"\4\2" + END
    rows = [[2, 2, 2, 2], [HOLE, HOLE, HOLE, 3], [1, HOLE, HOLE, HOLE]]
    check(make_bmp(runs, (4, 3)), rows, SKIPPED)


def test_runs_beyond_the_edge_are_told() -> None:
    check(make_bmp(b"\7\1" + LINE + b"\4\2" + END, (4, 2)), [[2] * 4, [1] * 4], DAMAGED)
    more = b"\4\1" + LINE + b"\4\2" + LINE + b"\4\3" + END
    check(make_bmp(more, (4, 2)), [[2] * 4, [1] * 4], DAMAGED)
    filled = b"\6\1" + LINE + b"\6\2" + LINE + END  # up to a whole byte
    check(make_bmp(filled, (5, 2), 4), [[0, 2, 0, 2, 0], [0, 1, 0, 1, 0]])


def test_runs_that_are_cut_are_named() -> None:
    data = make_bmp(b"\4\1" + LINE + b"\4\2" + LINE + b"\4\3" + END, (4, 3))
    for left in (3, 4, 5, 8):
        with pytest.raises(UndecodableImage, match="BMP is cut short"):
            read(data[:-left])
    with pytest.raises(UndecodableImage, match="BMP is cut short"):
        read(make_bmp(b"\0\4\1\2\3\0" + END, (4, 1))[:-4])


def test_two_colours_and_greys() -> None:
    two = [(0, 0, 0), (255, 255, 255)]
    picture = read(make_bmp(b"\2\1\2\0" + END, (4, 1), palette=two))
    assert picture.image[0, :, 0].tolist() == [255, 255, 0, 0]
    picture = read(make_bmp(b"\2\1\2\0" + LINE + b"\1\1" + END, (4, 2), palette=two))
    assert picture.image[0, :, 0].tolist() == [255] * 4 and picture.alpha is not None
    greys = [(level, level, level) for level in range(256)]
    picture = read(make_bmp(b"\2\x90\2\0" + END, (4, 1), palette=greys))
    assert picture.image[0, :, 0].tolist() == [0x90, 0x90, 0, 0]


@pytest.mark.parametrize(("bits", "kind", "name"), [(1, 3, "Huffman 1D"), (24, 4, "RLE24")])
def test_codings_of_os2_that_are_not_read_are_named(bits: int, kind: int, name: str) -> None:
    head = struct.pack("<IiiHHI", 64, 4, 2, 1, bits, kind) + bytes(44)
    colours = bytes(8) if bits == 1 else b""
    offset = 14 + len(head) + len(colours)
    data = struct.pack("<2sIHHI", b"BM", offset + 16, 0, 0, offset) + head + colours + bytes(16)
    with pytest.raises(UndecodableImage, match=f"a coding of BMP that is not read: {name}"):
        read(data)
