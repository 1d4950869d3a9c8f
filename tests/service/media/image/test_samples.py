"""Samples of more or fewer bits than eight, and transparency in all its forms."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.helpers import encode
from tests.hostile import chunk
from tests.raw_images import SHORT, make_deep_png, make_shallow_png, make_tiff
from tests.stills import read, store

RAMP = np.linspace(0, 1, 64 * 16).reshape(16, 64)  # not constant in either direction


def grey(levels: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) of levels in [0, 1], float in [0, 255]."""
    return np.repeat(levels[:, :, np.newaxis] * 255.0, 3, axis=2)


def deep(levels: np.ndarray, full: float, type: str) -> np.ndarray:
    return np.rint(levels * full).astype(type)[:, :, np.newaxis]


DEEP_GREY = {
    "PNG, 16 bits": make_deep_png(deep(RAMP, 65535, "u2")),
    "TIFF, 16 bits": make_tiff(deep(RAMP, 65535, "u2"), 1),
    "TIFF, 16 bits, big-endian": make_tiff(deep(RAMP, 65535, "u2"), 1, order=">"),
    "TIFF, 16 bits, white is 0": make_tiff(deep(1 - RAMP, 65535, "u2"), 0),
    "TIFF, 16 bits, signed": make_tiff(deep(RAMP, 32767, "i2"), 1),
    "TIFF, 32 bits": make_tiff(deep(RAMP, 2**32 - 1, "u4"), 1),
    "TIFF, 32 bits, signed": make_tiff(deep(RAMP, 2**31 - 1, "i4"), 1),
    "TIFF, 32 bits that hold 16": make_tiff(deep(RAMP, 65535, "i4"), 1),
    "TIFF, 32 bits that hold 16, big-endian": make_tiff(deep(RAMP, 65535, "i4"), 1, order=">"),
    "TIFF, float to 1": make_tiff(RAMP[:, :, np.newaxis].astype("f4"), 1),
    "TIFF, float to 255": make_tiff((RAMP * 255)[:, :, np.newaxis].astype("f4"), 1),
    "TIFF, float to 65535": make_tiff((RAMP * 65535)[:, :, np.newaxis].astype("f4"), 1),
    "TIFF, float to 10^6": make_tiff((RAMP * 1e6)[:, :, np.newaxis].astype("f4"), 1, order=">"),
}


@pytest.mark.parametrize("name", DEEP_GREY)
def test_deep_grey_is_scaled(name):
    picture = read(DEEP_GREY[name])
    assert np.abs(picture.image - grey(RAMP)).max() <= 0.51
    assert picture.alpha is None


def test_deep_grey_in_lzw_is_scaled():
    samples = deep(RAMP, 65535, "u2")[:, :, 0]
    picture = read(store(samples, 6, "TIFF", compression="tiff_lzw"))
    assert np.abs(picture.image - grey(RAMP)).max() <= 0.51


def test_floats_that_are_no_numbers_are_black_and_hurt_nobody():
    samples = RAMP.astype("f4").copy()
    samples[0, :4] = np.nan, np.inf, -np.inf, -3
    picture = read(make_tiff(samples[:, :, np.newaxis], 1))
    assert (picture.image[0, :4] == 0).all()
    assert np.abs(picture.image - grey(RAMP))[0, 4:].max() <= 0.51


def test_dark_float_picture_stays_dark():
    picture = read(make_tiff((RAMP / 10)[:, :, np.newaxis].astype("f4"), 1))
    assert np.abs(picture.image - grey(RAMP / 10)).max() <= 0.51


@pytest.fixture(scope="module")
def colours(portrait) -> np.ndarray:
    return np.asarray(Image.fromarray(portrait[:256, 100:356]).resize((48, 32)))


def test_deep_colours_are_scaled(colours):
    rng = np.random.default_rng(0)
    samples = colours.astype("u2") * 256 + rng.integers(0, 256, colours.shape, dtype="u2")
    files = [
        make_deep_png(samples),
        *(make_tiff(samples, 2, order=order) for order in "<>"),
    ]
    for data in files:
        assert np.abs(read(data).image - samples / 257).max() <= 1
    white = make_deep_png(np.full((4, 4, 3), 65535, "u2"))
    assert (read(white).image == 255).all()


def ramp_alpha(shape: tuple[int, ...]) -> np.ndarray:
    return np.tile(np.linspace(0, 255, shape[1]).astype(np.uint8), (shape[0], 1))


def assert_straight(picture, colours: np.ndarray, alpha: np.ndarray, error: float) -> None:
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - alpha).max() <= 1
    seen = picture.alpha > 0
    assert np.abs(picture.image.astype(float) - colours)[seen].max() <= error
    assert (picture.image[~seen] == 255).all() and not seen.all()


def test_deep_alpha_is_scaled(colours):
    alpha = ramp_alpha(colours.shape)
    greys = colours.mean(axis=2).astype(np.uint8)
    four = np.dstack([colours, alpha]).astype("u2") * 257
    assert_straight(read(make_deep_png(four)), colours, alpha, 1)
    assert_straight(read(make_tiff(four, 2, extra=(2,))), colours, alpha, 1)
    two = np.dstack([greys, alpha]).astype("u2") * 257
    assert_straight(read(make_deep_png(two)), greys[:, :, np.newaxis], alpha, 1)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("order", "<>")
def test_premultiplied_tiff_becomes_straight(colours, depth, order):
    alpha = np.maximum(ramp_alpha(colours.shape), 64)
    alpha[:, 0] = 0
    full = 2**depth - 1
    premultiplied = np.rint(colours / 255 * (alpha / 255)[:, :, np.newaxis] * full)
    samples = np.dstack([premultiplied, alpha / 255 * full]).astype(f"u{depth // 8}")
    picture = read(make_tiff(samples, 2, extra=(1,), order=order))
    assert_straight(picture, colours, alpha, 5)  # 8 bits of a quarter are coarse


def test_premultiplied_grey_tiff_becomes_straight(colours):
    greys = colours.mean(axis=2)
    alpha = np.maximum(ramp_alpha(colours.shape), 64)
    alpha[:, 0] = 0
    samples = np.dstack([np.rint(greys * alpha / 255), alpha]).astype("u1")
    picture = read(make_tiff(samples, 1, extra=(1,)))
    assert_straight(picture, np.rint(greys)[:, :, np.newaxis], alpha, 4)


def test_fourth_sample_that_is_no_alpha_is_ignored(colours):
    samples = np.dstack([colours, ramp_alpha(colours.shape)])
    picture = read(make_tiff(samples, 2, extra=(0,)))
    assert picture.alpha is None
    np.testing.assert_array_equal(picture.image, colours)


def test_alpha_that_is_opaque_everywhere_is_none(colours):
    opaque = np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])
    picture = read(encode(opaque, "PNG"))
    assert picture.alpha is None
    np.testing.assert_array_equal(picture.image, colours)


def test_picture_without_a_visible_pixel_is_white(colours):
    picture = read(encode(np.dstack([colours, np.zeros(colours.shape[:2], np.uint8)]), "PNG"))
    assert picture.alpha is not None and not picture.alpha.any()
    assert (picture.image == 255).all()


def key_chunk(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f"!{len(values)}H", *values))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparent_level_of_few_bits(depth):
    levels = np.arange(64).reshape(8, 8) % 2**depth
    picture = read(make_shallow_png(levels, depth, key_chunk(1)))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.where(levels == 1, 0, 255))
    expected = np.where(levels == 1, 255, levels * (255 // (2**depth - 1)))
    np.testing.assert_array_equal(picture.image[:, :, 0], expected)


def test_transparent_level_of_sixteen_bits():
    samples = deep(RAMP, 65535, "u2")
    picture = read(make_deep_png(samples, key_chunk(int(samples[3, 3, 0]))))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, samples[:, :, 0] == samples[3, 3, 0])
    assert (picture.alpha == 0).sum() == 1


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colour(colours, depth):
    pixels = colours.copy()
    pixels[:5] = 10, 200, 30
    if depth == 8:
        data = encode(pixels, "PNG", transparency=(10, 200, 30))
    else:
        key = [value * 256 + 7 for value in (10, 200, 30)]
        data = make_deep_png(pixels.astype("u2") * 256 + 7, key_chunk(*key))
    picture = read(data)
    assert picture.alpha is not None
    assert not picture.alpha[:5].any() and (picture.alpha[5:] == 255).all()
    np.testing.assert_array_equal(picture.image[5:], colours[5:])


@pytest.mark.parametrize("gamma", [None, 100_000])
def test_transparent_colour_of_sixteen_bits_is_compared_in_all_of_them(colours, gamma):
    """A colour that differs in its lower eight bits alone is opaque."""
    pixels = colours.astype("u2") * 257
    pixels[:5] = 2570, 51400, 7710
    pixels[5:10] = 2571, 51400, 7710
    described = b"" if gamma is None else chunk(b"gAMA", struct.pack("!I", gamma))
    picture = read(make_deep_png(pixels, described + key_chunk(2570, 51400, 7710)))
    assert picture.alpha is not None
    assert not picture.alpha[:5].any() and (picture.alpha[5:] == 255).all()
    opaque = read(make_deep_png(pixels, described)).image
    np.testing.assert_array_equal(picture.image[5:], opaque[5:])


@pytest.mark.parametrize("gamma", [None, 100_000])
def test_transparent_colour_of_a_cut_png_of_sixteen_bits(colours, gamma):
    """What is there of the file is what the whole one has there."""
    pixels = colours.astype("u2") * 257
    pixels[:5] = 2570, 51400, 7710
    pixels[5:10] = 2571, 51400, 7710
    described = b"" if gamma is None else chunk(b"gAMA", struct.pack("!I", gamma))
    whole = make_deep_png(pixels, described + key_chunk(2570, 51400, 7710))
    picture, full = read(whole[: int(len(whole) * 0.8)]), read(whole)
    rows = round(picture.rows_there * len(pixels))
    assert len(pixels) / 2 < rows < len(pixels)
    assert picture.alpha is not None and full.alpha is not None
    np.testing.assert_array_equal(picture.alpha[:rows], full.alpha[:rows])
    np.testing.assert_array_equal(picture.image[:rows], full.image[:rows])
    assert (picture.alpha[rows:] == 255).all()
    assert len(np.unique(picture.image[rows:])) == 1


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_entry_of_a_palette(colours, format):
    image = Image.fromarray(colours).quantize(16)
    picture = read(encode(image, format, transparency=3))
    holes = np.asarray(image) == 3
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.where(holes, 0, 255))
    shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(picture.image[~holes], shown[~holes])


def test_palette_with_an_alpha_for_each_entry(colours):
    image = Image.fromarray(colours).quantize(16)
    alphas = bytes(range(0, 256, 16))
    picture = read(encode(image, "PNG", transparency=alphas))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.asarray(image) * 16)


def test_twelve_bit_tiff_is_scaled():
    levels = np.rint(RAMP * 4095).astype(np.uint16)
    pairs = levels.reshape(-1, 2).astype(int)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1
    )
    data = make_tiff(packed.astype("u1").reshape(16, 96, 1), 1, more=((258, SHORT, (12,)),))
    width = struct.pack("<HHII", 256, 4, 1, 96)
    picture = read(data.replace(width, struct.pack("<HHII", 256, 4, 1, 64)))
    assert np.abs(picture.image - grey(RAMP)).max() <= 0.51
