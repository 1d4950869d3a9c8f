"""BMP whose header says by numbers what its colours are."""

import struct

import numpy as np

from service.media.colour.description import BT709, DISPLAY_P3, matrix_to_xyz
from tests.helpers import encode
from tests.profiles import convert_to_srgb, encode_srgb
from tests.stills import read


def differ(picture, expected: np.ndarray) -> float:
    return float(np.abs(picture.image.astype(float) - expected).mean())


def make_calibrated_bmp(pixels: np.ndarray, primaries, gamma: float, kind: int = 0) -> bytes:
    """Return a BMP of 24 bits with a header of version 4 that describes its colours."""
    xyz = (matrix_to_xyz(primaries).T * (1 << 30)).round().astype(np.uint32).tobytes()
    head = bytearray(encode(pixels, "BMP"))
    more = struct.pack("<4xI", kind) + xyz + struct.pack("<3I", *[round(gamma * 65536)] * 3)
    more = bytes(12) + more  # masks that do not count
    offset, size = 54 + len(more), len(head) + len(more)
    head[2:6], head[10:14] = struct.pack("<I", size), struct.pack("<I", offset)
    head[14:18] = struct.pack("<I", 40 + len(more))
    return bytes(head[:54]) + more + bytes(head[54:])


def test_gamma_and_primaries_of_a_bmp(portrait):
    colours = portrait[::8, ::8]
    linear = make_calibrated_bmp(colours, BT709, 1.0)
    picture = read(linear)
    assert differ(picture, np.rint(encode_srgb(colours / 255))) < 0.6
    assert picture.notes == ("colours converted from BT.709 gamma 1 to sRGB",)
    wide = read(make_calibrated_bmp(colours, DISPLAY_P3, 2.2))
    assert differ(wide, convert_to_srgb("P3", colours)) < 2
    assert differ(wide, colours) > 3
    for sound in (
        make_calibrated_bmp(colours, BT709, 2.2),
        make_calibrated_bmp(colours, BT709, 0.0),
        make_calibrated_bmp(colours, DISPLAY_P3, 1.0, kind=0x73524742),  # sRGB, whatever follows
    ):
        assert np.array_equal(read(sound).image, colours) and read(sound).notes == ()
