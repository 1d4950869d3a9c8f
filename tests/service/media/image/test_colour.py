"""Colour profiles: what the network sees is sRGB, what the result may carry is the file's own."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from service.media.image.colour import UNUSED
from tests.helpers import encode
from tests.profiles import (
    convert_lab_to_srgb,
    convert_to_srgb,
    encode_srgb,
    make_cmyk_profile,
    make_grey_profile,
    make_profile,
    mix_inks,
)
from tests.raw_images import make_tiff
from tests.stills import LOSSLESS, read, store

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WIDE = ["P3", "Adobe RGB", "ProPhoto"]


@pytest.fixture(scope="module")
def colours(portrait) -> np.ndarray:
    """A photo above, saturated colours below: (64, 64, 3)."""
    photo = np.asarray(Image.fromarray(portrait[:256, 100:356]).resize((64, 48)))
    random = np.random.default_rng(0).integers(0, 256, (4, 16, 3), dtype=np.uint8)
    return np.concatenate([photo, random.repeat(4, 0).repeat(4, 1)])


@pytest.mark.parametrize("format", LOSSLESS)
@pytest.mark.parametrize("name", WIDE)
def test_wide_colours_are_shown_as_srgb_and_kept_beside(colours, name, format):
    icc = make_profile(name)
    picture = read(encode(colours, format, icc_profile=icc, **LOSSLESS[format]))
    assert picture.icc == icc
    assert picture.own is not None
    own_error = np.abs(picture.own.astype(int) - colours).mean()
    assert own_error <= (1.5 if format in ("JPEG", "AVIF") else 0)
    expected = convert_to_srgb(name, picture.own)
    assert np.abs(picture.image - expected).max() <= 1
    assert np.abs(convert_to_srgb(name, colours) - colours).max() > 30, "the profile does much"


def test_wide_colours_of_a_turned_picture_with_alpha_stay_together(colours):
    alpha = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    image = Image.fromarray(np.dstack([colours, alpha])[:, :48])
    picture = read(store(image, 6, "PNG", icc_profile=make_profile("P3")))
    assert picture.own is not None and picture.alpha is not None
    seen = alpha[:, :48] > 0
    np.testing.assert_array_equal(picture.alpha, alpha[:, :48])
    np.testing.assert_array_equal(picture.own[seen], colours[:, :48][seen])
    expected = convert_to_srgb("P3", colours[:, :48])
    assert np.abs(picture.image - expected)[seen].max() <= 1
    assert (picture.own[~seen] == 255).all() and (picture.image[~seen] == 255).all()


def test_palette_is_converted_through_the_profile(colours):
    image = Image.fromarray(colours).quantize(32)
    picture = read(encode(image, "PNG", icc_profile=make_profile("Adobe RGB")))
    shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(picture.own, shown)
    assert np.abs(picture.image - convert_to_srgb("Adobe RGB", shown)).max() <= 1


@pytest.mark.parametrize("icc", [SRGB, make_profile("sRGB")], ids=["Pillow's", "own"])
def test_srgb_under_any_name_changes_nothing_and_is_kept(colours, icc):
    picture = read(encode(colours, "PNG", icc_profile=icc))
    np.testing.assert_array_equal(picture.image, colours)
    assert picture.own is None and picture.icc == icc


def test_wide_profile_that_calls_itself_srgb_is_told_by_its_effect(colours):
    icc = make_profile("P3").replace(b"P3\0", b"sRG", 1)
    assert read(encode(colours, "PNG", icc_profile=icc)).own is not None


BROKEN = {
    "garbage": b"not a profile" * 40,
    "one byte": b"\0",
    "header alone": make_profile("P3")[:128],
    "cut": make_profile("P3")[:300],
    "no tags": make_profile("P3")[:128] + bytes(4),
    "size that lies": b"\xff\xff\xff\xff" + make_profile("P3")[4:],
    "tags that lie": make_profile("P3")[:132] + b"\xff" * 100 + make_profile("P3")[232:],
    "of grey": make_grey_profile(1.0),
    "of inks": make_cmyk_profile(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_profile_is_no_profile(colours, name):
    picture = read(encode(colours, "PNG", icc_profile=BROKEN[name]))
    np.testing.assert_array_equal(picture.image, colours)
    assert picture.own is None and picture.icc == b"" and picture.notes == (UNUSED,)


@pytest.mark.parametrize("name, mode", [("P3", "L"), ("P3", "CMYK")])
def test_profile_of_another_colour_model_is_no_profile(colours, name, mode):
    image = Image.fromarray(colours).convert(mode)
    picture = read(encode(image, "TIFF", icc_profile=make_profile(name)))
    assert np.abs(picture.image.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1
    assert picture.own is None and picture.icc == b"" and picture.notes == (UNUSED,)


def test_profile_of_many_megabytes_is_used_and_not_kept(colours):
    icc = make_profile("P3", padding=5 << 20)
    picture = read(encode(colours, "TIFF", icc_profile=icc))
    assert np.abs(picture.image - convert_to_srgb("P3", colours)).max() <= 1
    assert picture.own is None and picture.icc == b""


def test_profile_of_some_megabytes_is_kept(colours):
    for format in ("TIFF", "JPEG", "PNG"):
        icc = make_profile("P3", padding=3 << 20)
        assert read(encode(colours, format, icc_profile=icc)).icc == icc


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("gamma", [1.5, 2.6])
def test_grey_goes_through_its_profile(colours, mode, gamma):
    image = Image.fromarray(colours).convert(mode)
    picture = read(encode(image, "PNG", icc_profile=make_grey_profile(gamma)))
    grey = np.asarray(image.convert("L"))
    expected = encode_srgb((grey / 255) ** (round(gamma * 256) / 256))
    difference = np.abs(picture.image - expected[:, :, np.newaxis])
    assert difference.max() <= 5 and difference.mean() <= 0.6  # lcms is coarse in the shadows
    assert np.abs(expected - grey).mean() > 10, "the profile does much"
    assert picture.own is None and picture.icc == b"" and picture.alpha is None


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profile_of_a_grey_webp_is_used(colours, mode):
    """WebP has no grey: it stores three equal channels, and the profile as it was."""
    image = Image.fromarray(colours).convert(mode)
    picture = read(encode(image, "WEBP", lossless=True, icc_profile=make_grey_profile(1.5)))
    grey = np.asarray(image.convert("L"))
    difference = np.abs(picture.image[..., 1] - encode_srgb((grey / 255) ** 1.5))
    assert difference.max() <= 5 and difference.mean() <= 0.6
    assert picture.notes == ()
    coloured = read(encode(colours, "WEBP", lossless=True, icc_profile=make_grey_profile(1.5)))
    np.testing.assert_array_equal(coloured.image, colours)
    assert coloured.notes == (UNUSED,)


INKS = np.stack(np.meshgrid(*[[0, 255]] * 4, indexing="ij"), -1).reshape(4, 4, 4).astype(np.uint8)


def make_cmyk(format: str, **options) -> bytes:
    """Return patches of 16 x 16 pixels, each ink there or not; JPEG has them inverted as Adobe."""
    patches = INKS.repeat(16, 0).repeat(16, 1)
    return encode(Image.frombytes("CMYK", (64, 64), patches.tobytes()), format, **options)


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_go_through_their_profile(format):
    data = make_cmyk(format, icc_profile=make_cmyk_profile(), quality=100)
    if format == "JPEG":
        assert b"Adobe" in data[:4000]
    picture = read(data)
    expected = convert_lab_to_srgb(mix_inks(INKS / 255.0))
    middle = picture.image[8::16, 8::16]
    assert np.abs(middle - expected).max() <= 4
    assert np.abs(middle - np.asarray(read(make_cmyk(format)).image[8::16, 8::16], int)).max() > 40
    assert picture.own is None and picture.icc == b""


@pytest.mark.parametrize("icc", [None, b"garbage" * 30], ids=["none", "broken"])
@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_without_a_usable_profile_are_taken_as_ideal(format, icc):
    picture = read(make_cmyk(format, icc_profile=icc, quality=100))
    left = 255.0 - INKS
    expected = left[:, :, :3] * left[:, :, 3:] / 255
    assert np.abs(picture.image[8::16, 8::16] - expected).max() <= 3


def test_lab_tiff_is_shown_in_srgb():
    lab = np.array([[[80, 20, -30], [50, 0, 0], [100, 0, 0], [30, -20, 20]]], np.float64)
    stored = lab * (2.55, 1, 1)
    samples = np.rint(stored).astype(np.int16).astype(np.uint8)  # a and b are signed bytes
    picture = read(make_tiff(samples, 8))
    assert np.abs(picture.image - convert_lab_to_srgb(lab)).max() <= 3
    assert picture.own is None and picture.icc == b""
