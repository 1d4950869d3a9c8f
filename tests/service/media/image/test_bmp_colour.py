"""BMP whose header says by numbers what its colours are, or is not what Pillow reads."""

import struct

import numpy as np
from PIL import Image

from service.media.colour.description import BT709, DISPLAY_P3, matrix_to_xyz
from tests.helpers import encode
from tests.profiles import convert_to_srgb, encode_srgb
from tests.stills import read


def differ(picture, expected: np.ndarray) -> float:
    return float(np.abs(picture.image.astype(float) - expected).mean())


def make_calibrated_bmp(
    pixels: np.ndarray, primaries, gamma: float, kind: int = 0, *, is_scaled: bool = True
) -> bytes:
    """Return a BMP of 24 bits with a header of version 4 that describes its colours."""
    weights = matrix_to_xyz(primaries).T if is_scaled else np.reshape(primaries[:6], (3, 2))
    if not is_scaled:
        weights = np.column_stack([weights, 1 - weights.sum(1)])
    xyz = (weights * (1 << 30)).round().astype(np.uint32).tobytes()
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
        make_calibrated_bmp(colours, BT709, 1 / 2.2, is_scaled=False),  # as ImageMagick writes it
        make_calibrated_bmp(colours, DISPLAY_P3, 1.0, kind=0x73524742),  # sRGB, whatever follows
    ):
        assert np.array_equal(read(sound).image, colours) and read(sound).notes == ()


def test_short_header_and_long_palette_of_a_bmp(portrait) -> None:
    """OS/2 has headers of 16 bytes; some files list more colours than their pixels can name."""
    image = Image.fromarray(portrait[::8, ::8]).quantize(256)
    data, shown = encode(image, "BMP"), np.asarray(image.convert("RGB"))
    offset = struct.unpack_from("<I", data, 10)[0]
    short = struct.pack("<I", 16) + data[18:30] + data[54:]
    short = data[:10] + struct.pack("<I", offset - 24) + short
    assert np.array_equal(read(short).image, shown)
    palette = data[54:offset] + bytes(4 * 44)
    long = data[:46] + struct.pack("<I", 300) + data[50:54] + palette + data[offset:]
    long = long[:10] + struct.pack("<I", 54 + len(palette)) + long[14:]
    assert np.array_equal(read(long).image, shown)
