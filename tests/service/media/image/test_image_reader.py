"""Every format, mode and orientation: the pixels that come out, the size that the header tells."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from service.media.image.reader import decode_image, open_image
from service.media.image.types import FORMATS, UndecodableImage, UnknownFormat
from tests.helpers import ROOT, encode
from tests.raw_images import make_tiff
from tests.stills import LOSSLESS, read, store

MODES = {
    "AVIF": ("RGB", "RGBA", "L", "LA", "P"),
    "HEIF": ("RGB", "RGBA", "L", "LA"),
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "I;16", "F"),
    "WEBP": ("RGB", "RGBA", "L", "LA", "P"),
}
# Mean error allowed, of 255: the formats whose "lossless" settings still round.
TOLERANCE = {"JPEG": 1.5, "AVIF": 1.5}


@pytest.fixture(scope="module")
def upright(portrait) -> Image.Image:
    """A picture that no turn leaves as it is, wider than high."""
    return Image.fromarray(portrait[:256, 100:484]).resize((96, 64))


def convert(image: Image.Image, mode: str) -> tuple[Image.Image, np.ndarray, np.ndarray | None]:
    """Return (the picture in a mode, the RGB a viewer shows, its alpha)."""
    width, height = image.size
    ramp = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    alpha = Image.fromarray(ramp)
    grey = image.convert("L")
    greys = np.asarray(grey.convert("RGB"))
    match mode:
        case "RGBA":
            return Image.merge("RGBA", [*image.split(), alpha]), np.asarray(image), ramp
        case "LA":
            return Image.merge("LA", [grey, alpha]), greys, ramp
        case "PA":
            palette = image.quantize(32)
            both = palette.convert("PA")
            both.putalpha(alpha)
            return both, np.asarray(palette.convert("RGB")), ramp
        case "P":
            palette = image.quantize(32)
            return palette, np.asarray(palette.convert("RGB")), None
        case "1":
            bits = grey.convert("1")
            return bits, np.asarray(bits.convert("RGB")), None
        case "I;16":
            deep = np.asarray(grey).astype(np.uint16) * 257
            return Image.fromarray(deep), greys, None
        case "F":
            return Image.fromarray(np.asarray(grey, np.float32) / 255), greys, None
        case "CMYK":
            inks = image.convert("CMYK")
            cmyk = 255 - np.asarray(inks).astype(np.float64)
            return inks, cmyk[:, :, :3] * cmyk[:, :, 3:] / 255, None
    return image.convert(mode), greys if mode == "L" else np.asarray(image), None


def count_frames(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return image.n_frames


def assert_shows(picture, expected: np.ndarray, alpha: np.ndarray | None, error: float) -> None:
    """Assert colours where alpha is above 0, white elsewhere, and alpha itself."""
    difference = np.abs(picture.image - np.asarray(expected, np.float64))
    if alpha is None:
        assert picture.alpha is None
        assert difference.mean() <= error
        return
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - alpha).max() <= (0 if error == 0 else 3)
    assert difference[picture.alpha > 0].mean() <= error
    assert (picture.image[picture.alpha == 0] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format, mode", [(f, mode) for f in MODES for mode in MODES[f]])
def test_picture_is_upright_in_srgb(upright, format, mode, orientation):
    image, expected, alpha = convert(upright, mode)
    error = TOLERANCE.get(format, 0.5)
    picture = read(store(image, orientation, format, **LOSSLESS[format]))
    assert picture.image.shape == (64, 96, 3)
    assert_shows(picture, expected, alpha, error)
    assert picture.own is None and picture.icc == b""


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_bmp_is_read(upright, mode):
    image, expected, alpha = convert(upright, mode)
    assert_shows(read(encode(image, "BMP")), expected, alpha, 0)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", MODES["TIFF"])
def test_compressed_tiff_is_read(upright, mode, compression):
    image, expected, alpha = convert(upright, mode)
    data = store(image, 6, "TIFF", compression=compression)
    assert_shows(read(data), expected, alpha, 0.5)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_of_either_byte_order_is_read(upright, order, orientation):
    pixels = np.asarray(
        upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright
    )
    data = make_tiff(pixels, 2, order=order, orientation=orientation)
    assert_shows(read(data), np.asarray(upright), None, 0)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_first_frame_of_several_is_read(upright, format):
    options = LOSSLESS.get(format, {}) | {"save_all": True}
    first, second = upright.quantize(32), Image.new("P", upright.size)
    expected = first.convert("RGB")
    if format != "GIF":
        first, second = expected, second.convert("RGB")
    data = encode(first, format, append_images=[second], **options)
    assert count_frames(data) == 2
    assert_shows(read(data), np.asarray(expected), None, TOLERANCE.get(format, 0))


def test_primary_picture_of_a_heic_is_read(upright):
    other = Image.new("RGB", (16, 16))
    options = LOSSLESS["HEIF"] | {"save_all": True, "append_images": [upright], "primary_index": 1}
    data = encode(other, "HEIF", **options)
    assert_shows(read(data), np.asarray(upright), None, 0.5)


def test_phone_jpeg_with_a_second_picture_is_a_jpeg(upright):
    data = encode(upright, "MPO", save_all=True, append_images=[upright.rotate(180)], quality=95)
    opened = open_image(data)
    assert opened.info.format == "JPEG"
    assert np.abs(decode_image(opened).image.astype(int) - np.asarray(upright)).mean() < 4


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"])
def test_heif_is_told_by_any_of_its_brands(upright, brand):
    data = encode(upright, "HEIF", **LOSSLESS["HEIF"])
    at = data.index(b"ftyp") + 4
    assert open_image(data[:at] + brand + data[at + 4 :]).info.format == "HEIF"


def test_avif_under_the_common_brand_is_avif(upright):
    data = encode(upright, "AVIF")
    at = data.index(b"ftyp") + 4
    assert open_image(data[:at] + b"mif1" + data[at + 4 :]).info.format == "AVIF"


def test_orientation_behind_the_pixels_of_a_png_is_in_the_header(upright):
    data = store(upright, 6, "PNG")
    at = data.index(b"eXIf") - 4
    end = at + int.from_bytes(data[at : at + 4], "big") + 12
    moved = data[:at] + data[end:-12] + data[at:end] + data[-12:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    assert_shows(read(moved), np.asarray(upright), None, 0)


def test_heic_is_turned_by_its_own_boxes_not_by_exif_alone(upright):
    """The standard calls EXIF informative; phones write both, and one turn is due."""
    both = store(upright, 6, "HEIF", **LOSSLESS["HEIF"])
    assert b"irot" in both and b"Exif" in both
    exif = Image.Exif()
    exif[0x0112] = 6
    alone = encode(upright, "HEIF", exif=exif, **LOSSLESS["HEIF"])
    assert b"irot" not in alone and b"Exif" in alone
    for data in (both, alone):
        assert_shows(read(data), np.asarray(upright), None, 0.5)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_that_does_not_exist_is_none(upright, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_shows(read(encode(upright, "PNG", exif=exif)), np.asarray(upright), None, 0)


def test_picture_of_many_strips_has_no_seams(monkeypatch, upright):
    monkeypatch.setattr("service.media.image.samples._STRIP_PIXELS", 1000)  # 10 rows
    image, expected, alpha = convert(upright, "RGBA")
    assert_shows(read(encode(image, "PNG")), expected, alpha, 0)


def test_tiff_of_samples_that_nobody_reads_is_refused(upright):
    data = make_tiff(np.asarray(upright).astype(np.float64), 2)
    with pytest.raises(UndecodableImage, match="not read: 3 samples of 64 bits, float"):
        open_image(data)


def test_plug_in_for_heic_is_not_in_the_service():
    """Its C code is for the decoder child alone."""
    assert "HEIF" in FORMATS
    code = "import sys, service.app; print(sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "'service.media.image.types'" in result.stdout
    for name in ("pillow_heif", "_pillow_heif", "service.media.image.reader"):
        assert f"'{name}'" not in result.stdout


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("JPEG2000", "a JPEG 2000 picture"),
        ("ICO", "an icon"),
        ("DDS", "a DDS texture"),
        ("PDF", "a PDF"),
    ],
)
def test_pictures_of_other_formats_are_named(upright, format, name):
    with pytest.raises(UnknownFormat, match=f"the file is {name}.*, which is not read; send JPEG"):
        open_image(encode(upright, format))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 9)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF"])
def test_thin_and_odd_sizes(upright, format, size):
    image = upright.resize(size)
    image = image.quantize(16) if format == "GIF" else image
    picture = read(encode(image, format))
    assert picture.image.shape == (size[1], size[0], 3) and picture.notes == ()
    assert np.abs(picture.image.astype(int) - np.asarray(image.convert("RGB"))).mean() < 12
