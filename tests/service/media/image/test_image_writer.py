"""Stills as they go out: pixels, profile and EXIF read back from the bytes."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.media.image.writer import CONTENT_TYPES, MAX_SIDE, encode_image
from service.threads import TooLate
from tests.profiles import make_profile
from tests.stills import read

FORMATS = sorted(CONTENT_TYPES)
WITH_ALPHA = ["avif", "png", "webp"]


def encode(pixels: np.ndarray, format: str, quality: int = 90, **more) -> bytes:
    return encode_image(pixels, format, quality=quality, compression=1, **more)


def open_image(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return np.asarray(Image.fromarray(portrait).resize((128, 96)))


@pytest.fixture(scope="module")
def matte(photo) -> np.ndarray:
    """Flat black and white, and noise between them: (96, 128)."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8)
    columns = np.arange(128)
    return np.where(columns < 40, 0, np.where(columns > 90, 255, noise)).astype(np.uint8)


@pytest.mark.parametrize("format", FORMATS)
def test_format_is_the_one_of_its_content_type(photo, format):
    image = open_image(encode(photo, format))
    assert image.get_format_mimetype() == CONTENT_TYPES[format]
    assert image.size == (128, 96) and image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - photo).mean() <= (0 if format == "png" else 4)


@pytest.mark.parametrize("quality", [40, 90, 100])
@pytest.mark.parametrize("format", WITH_ALPHA)
def test_alpha_of_a_cutout_is_exact_at_any_quality(photo, matte, format, quality):
    image = open_image(encode(np.dstack([photo, matte]), format, quality))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image)[:, :, 3], matte)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_colours_under_alpha_zero_are_kept(photo, format):
    hidden = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    pixels = np.asarray(open_image(encode(hidden, format, 100)))
    np.testing.assert_array_equal(pixels, hidden)
    lossy = np.asarray(open_image(encode(hidden, format, 90)))[:, :, :3]
    assert np.abs(lossy.astype(int) - photo).mean() < 5


@pytest.mark.parametrize("format, quality", [("png", 1), ("webp", 100), ("avif", 100)])
def test_matte_is_exact_where_that_is_promised(matte, format, quality):
    image = open_image(encode(matte, format, quality))
    np.testing.assert_array_equal(np.asarray(image.convert("L")), matte)
    assert image.mode == {"webp": "RGB"}.get(format, "L")


@pytest.mark.parametrize("format", ["avif", "jpeg", "webp"])
def test_matte_at_the_default_quality_is_close(matte, format):
    pixels = np.asarray(open_image(encode(matte, format)).convert("L")).astype(int)
    error = np.abs(pixels - matte)
    assert error[:, :32].max() <= 1 and error[:, 96:].max() <= 1, "what is flat stays flat"
    assert error.mean() <= 4


def test_quality_buys_fidelity(photo):
    for format in ("avif", "jpeg", "webp"):
        sizes = [len(encode(photo, format, quality)) for quality in (30, 70, 95)]
        assert sizes == sorted(sizes) and sizes[0] < sizes[2] / 2
    assert np.array_equal(np.asarray(open_image(encode(photo, "webp", 100))), photo)


@pytest.mark.parametrize("quality, factors", [(89, (2, 2)), (90, (1, 1)), (100, (1, 1))])
def test_jpeg_has_full_colour_resolution_from_90_on(photo, quality, factors):
    assert open_image(encode(photo, "jpeg", quality)).layer[0][1:3] == factors
    assert "progressive" not in open_image(encode(photo, "jpeg", quality)).info


@pytest.mark.parametrize(
    "format, has_alpha", [(f, False) for f in FORMATS] + [(f, True) for f in WITH_ALPHA]
)
def test_profile_and_exif_come_back(photo, matte, format, has_alpha):
    pixels = np.dstack([photo, matte]) if has_alpha else photo
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ISOSpeedRatings: 200}
    icc = make_profile("P3", padding=100_000)
    image = open_image(encode(pixels, format, icc=icc, exif=exif.tobytes()))
    assert image.info["icc_profile"] == icc
    assert image.getexif()[ExifTags.Base.Make] == "Maker"
    assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 200


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_added_that_was_not_asked_for(photo, format):
    image = open_image(encode(photo, format))
    assert not image.info.get("icc_profile") and not image.getexif()


@pytest.mark.parametrize("format", FORMATS)
def test_exif_is_written_and_never_parsed(photo, format):
    """Bytes of clients are read in the decoder child alone."""
    data = encode(photo, format, exif=b"Exif\0\0II*\0\xff\xff\xff\xffnonsense")
    assert b"nonsense" in data


@pytest.mark.parametrize("format", FORMATS)
def test_result_is_an_input_of_the_same_colours(photo, format):
    """The round trip of a client who sends a result again."""
    icc = make_profile("Adobe RGB")
    picture = read(encode(photo, format, 100, icc=icc))
    assert picture.icc == icc and picture.own is not None
    assert np.abs(picture.own.astype(int) - photo).mean() <= 3


@pytest.mark.parametrize("format", sorted(MAX_SIDE))
def test_longest_side_is_what_the_format_holds(format):
    side = MAX_SIDE[format]
    assert open_image(encode(np.zeros((1, side), np.uint8), format)).size == (side, 1)
    with pytest.raises((OSError, ValueError)):  # by the writer, or by the reader
        open_image(encode(np.zeros((1, side + 1), np.uint8), format))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_ends_when_nobody_waits_for_it(channels: int):
    asked = []

    def is_late() -> bool:
        asked.append(1)
        return len(asked) > 3

    noise = np.random.default_rng(0).integers(0, 256, (900, 900, channels), np.uint8).squeeze()
    with pytest.raises(TooLate):
        encode_image(noise, "png", quality=90, compression=9, is_late=is_late)
    assert len(asked) == 4
