"""Files that end early or are damaged beside their pixels; what is refused, and in which words."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.media.image.reader import decode_image, open_image
from service.media.image.types import UndecodableImage
from tests.helpers import encode
from tests.hostile import chunk
from tests.profiles import make_profile
from tests.raw_images import make_shallow_png, make_tiff
from tests.stills import read, store


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return portrait[:200, 100:356].copy()


def decode_here(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def why(data: bytes) -> str:
    with pytest.raises(UndecodableImage) as error:
        decode_image(open_image(data))
    return str(error.value)


JPEGS = {
    "RGB": ("RGB", {"quality": 95}),
    "4:4:4": ("RGB", {"quality": 95, "subsampling": 0}),
    "grey": ("L", {"quality": 95}),
    "CMYK": ("CMYK", {"quality": 95}),
    "restarts": ("RGB", {"quality": 95, "restart_marker_rows": 1}),
}


@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_without_its_end_marker_is_whole(photo, name):
    mode, options = JPEGS[name]
    data = encode(Image.fromarray(photo).convert(mode), "JPEG", **options)
    picture = read(data[:-2])
    assert np.array_equal(picture.image, read(data).image)
    assert picture.rows_there == 1 and picture.notes == ()
    assert np.array_equal(read(data[:-1]).image, picture.image)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "end marker added"])
def test_jpeg_whose_rows_are_missing(photo, name, closed):
    mode, options = JPEGS[name]
    data = encode(Image.fromarray(photo).convert(mode), "JPEG", **options)
    whole = read(data).image
    cut = data[: -len(data) // 5] + (b"\xff\xd9" if closed else b"")
    picture = read(cut)
    rows = round(picture.rows_there * 200)
    assert 100 <= rows < 190
    assert np.array_equal(picture.image[:rows], whole[:rows])
    rest = picture.image[rows:]
    assert (rest == rest[0, 0]).all() and len(set(rest[0, 0].tolist())) == 1
    assert abs(int(rest[0, 0, 0]) - picture.image[rows - 1].mean()) <= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF"])
def test_file_with_less_than_half_of_its_rows_is_refused(photo, format):
    image = Image.fromarray(photo).quantize() if format == "GIF" else Image.fromarray(photo)
    data = encode(image, format)
    assert "ends early" in why(data[: len(data) * 3 // 10])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "GIF"])
def test_png_and_gif_that_end_early(photo, mode):
    image = Image.fromarray(photo)
    image = image.quantize() if mode in ("P", "GIF") else image.convert(mode)
    data = encode(image, "GIF", interlace=0) if mode == "GIF" else encode(image, "PNG")
    whole = read(data).image
    for end in (1, 2) if mode == "GIF" else (1, 2, 8, 12):
        picture = read(data[:-end])
        assert np.array_equal(picture.image, whole) and picture.rows_there == 1
    picture = read(data[: -len(data) // 5])
    rows = round(picture.rows_there * 200)
    assert 120 < rows < 190
    assert np.array_equal(picture.image[:rows], whole[:rows])
    rest = picture.image[rows:]
    assert (rest == rest[0, 0]).all()


def test_interlaced_gif_that_ends_early_has_no_stripes(photo):
    data = encode(Image.fromarray(photo).quantize(), "GIF", interlace=1)
    whole = read(data).image
    picture = read(data[: -len(data) // 5])
    same = (picture.image == whole).all((1, 2))
    assert same.mean() == pytest.approx(picture.rows_there, abs=0.01)
    above = np.flatnonzero(~same) - 1
    assert np.array_equal(picture.image[~same], whole[above])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_that_ends_early(photo, mode):
    image = Image.fromarray(photo).convert(mode)
    data = encode(image, "WEBP", quality=90)
    whole = read(data).image
    for end in (1, 2):
        picture = read(data[:-end])
        assert picture.rows_there == 1
        assert np.abs(picture.image.astype(int) - whole).mean() < 2
    picture = read(data[: -len(data) // 5])
    rows = round(picture.rows_there * 200)
    assert 100 <= rows < 190
    assert np.abs(picture.image[:rows].astype(int) - whole[:rows]).mean() < 2
    rest = picture.image[rows:]
    assert (rest == rest[0, 0]).all()
    assert "ends early" in why(data[: len(data) * 3 // 10])


def test_lossless_webp_that_ends_early_is_refused_by_name(photo):
    data = encode(photo, "WEBP", lossless=True)
    assert "cut short" in why(data[: -len(data) // 5])


def test_turned_jpeg_that_ends_early(photo):
    data = store(photo, 6, "JPEG", quality=95)
    whole = read(data).image
    picture = read(data[: -len(data) // 5])
    assert 0.5 < picture.rows_there < 0.95
    same = (picture.image == whole).all((0, 2))
    assert same.mean() == pytest.approx(picture.rows_there, abs=0.02)


def test_progressive_jpeg_that_ends_early_is_coarser(photo):
    data = encode(photo, "JPEG", quality=95, progressive=True)
    assert read(data[:-2]).notes == ()
    assert np.array_equal(read(data[:-2]).image, read(data).image)
    picture = read(data[: -len(data) // 10])
    assert any("coarser" in note for note in picture.notes)
    assert np.abs(picture.image.astype(int) - photo).mean() < 10


def test_grey_photo_of_level_128_is_not_cut():
    flat = np.full((64, 64, 3), 128, np.uint8)
    picture = read(encode(flat, "JPEG"))
    assert np.array_equal(picture.image, flat) and picture.rows_there == 1


def corrupt(kind: bytes, content: bytes) -> bytes:
    whole = chunk(kind, content)
    return whole[:-4] + bytes(4)


BESIDE = {
    "pHYs, checksum": corrupt(b"pHYs", bytes(9)),
    "pHYs, short": chunk(b"pHYs", b"\0"),
    "tIME, checksum": corrupt(b"tIME", bytes(7)),
    "text of 50 MB": chunk(b"tEXt", b"Comment\0" + bytes(50 << 20)),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20), 1)),
    "iTXt, rubbish": chunk(b"iTXt", b"\0\1\2"),
    "iCCP, checksum": corrupt(b"iCCP", b"x\0\0" + zlib.compress(make_profile("P3"))),
    "iCCP, rubbish": chunk(b"iCCP", b"x\0\0rubbish"),
    "iCCP, method": chunk(b"iCCP", b"x\0\7rubbish"),
    "gAMA, checksum": corrupt(b"gAMA", struct.pack("!I", 100_000)),
    "cHRM, short": chunk(b"cHRM", b"\0\0"),
    "sRGB, empty": chunk(b"sRGB", b""),
    "bKGD, long": chunk(b"bKGD", bytes(200)),
    "tRNS, short": chunk(b"tRNS", b"\0"),
    "tRNS, checksum": corrupt(b"tRNS", bytes(6)),
    "eXIf, rubbish": chunk(b"eXIf", b"rubbish"),
    "acTL": chunk(b"acTL", b"\0"),
    "fcTL": chunk(b"fcTL", bytes(4)),
    "unknown": chunk(b"prVt", b"?" * 100),
}


@pytest.mark.parametrize("name", BESIDE)
def test_png_damaged_beside_its_pixels(photo, name):
    data = encode(photo, "PNG")
    picture = read(data[:33] + BESIDE[name] + data[33:])
    assert np.array_equal(picture.image, photo)
    assert picture.alpha is None and picture.icc == b""
    assert bool(picture.notes) == ("checksum" in name or "50 MB" in name or name.startswith("tRNS"))


def damage(data: bytes, share: float, size: int = 1) -> bytes:
    """Return the file with other bytes from that share of it on."""
    at = int(len(data) * share)
    return data[:at] + bytes(byte ^ 0x55 for byte in data[at : at + size]) + data[at + size :]


def split_pixels(data: bytes, size: int) -> bytes:
    """Return a PNG with its pixels in chunks of so many bytes, as libpng writes them."""
    begin = data.index(b"IDAT") - 4
    length = int.from_bytes(data[begin : begin + 4])
    pixels, rest = data[begin + 8 : begin + 8 + length], data[begin + 12 + length :]
    parts = [chunk(b"IDAT", pixels[at : at + size]) for at in range(0, length, size)]
    return data[:begin] + b"".join(parts) + rest


@pytest.mark.parametrize("size", [1, 400])
def test_png_damaged_inside_its_pixels(photo, size):
    """Only what lies before the damaged chunk is sure to be right."""
    data = split_pixels(encode(photo, "PNG"), 2000)
    picture = read(damage(data, 0.8, size))
    assert 0.6 < picture.rows_there < 0.85
    rows = int(picture.rows_there * len(photo))
    assert np.array_equal(picture.image[:rows], photo[:rows])
    assert np.ptp(picture.image[rows:].reshape(-1)) == 0
    with pytest.raises(UndecodableImage, match="damaged or ends early: 0% of its rows"):
        read(damage(encode(photo, "PNG"), 0.3, size))


def test_png_with_a_wrong_checksum_and_sound_pixels(photo):
    data = split_pixels(encode(photo, "PNG"), 2000)
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    picture = read(damage(data, (second - 8 + 0.5) / len(data)))  # the checksum of the first
    assert np.array_equal(picture.image, photo) and picture.rows_there == 1


def test_profile_of_a_jpeg_without_one_of_its_pieces_is_told(photo):
    data = encode(photo, "JPEG", icc_profile=make_profile("P3", padding=150_000))
    first, second = (data.index(b"ICC_PROFILE\0" + bytes([n])) - 4 for n in (1, 2))
    picture = read(data[:first] + data[second:])
    assert picture.icc == b""
    assert picture.notes == ("damaged and left out: a profile of which pieces are missing",)


SEGMENTS = {
    "ICC, short": (0xE2, b"ICC_PROFILE\0"),
    "ICC, cut name": (0xE2, b"ICC_PROFILE"),
    "ICC, number": (0xE2, b"ICC_PROFILE\0\x05\x02" + bytes(40)),
    "ICC, rubbish": (0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(40)),
    "Adobe, short": (0xEE, b"Adobe\0"),
    "JFIF, short": (0xE0, b"JFIF\0"),
    "Exif, short": (0xE1, b"Exif\0"),
    "Exif, rubbish": (0xE1, b"Exif\0\0rubbish"),
    "MPF, rubbish": (0xE2, b"MPF\0rubbish"),
    "Photoshop, rubbish": (0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04"),
    "XMP, rubbish": (0xE1, b"http://ns.adobe.com/xap/1.0/\0<rubbish"),
    "comment, empty": (0xFE, b""),
    "private": (0xEB, b"?" * 200),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_jpeg_damaged_beside_its_pixels(photo, name):
    data = encode(photo, "JPEG", quality=95)
    marker, content = SEGMENTS[name]
    segment = struct.pack("!BBH", 0xFF, marker, len(content) + 2) + content
    for at in (2, 20):
        picture = read(data[:at] + segment + data[at:])
        assert np.array_equal(picture.image, decode_here(data))
        assert picture.icc == b""


def test_whole_profile_of_a_jpeg_is_kept_when_another_segment_is_damaged(photo):
    icc = make_profile("P3", padding=100_000)
    data = encode(photo, "JPEG", icc_profile=icc)
    segment = struct.pack("!BBH", 0xFF, 0xEE, 8) + b"Adobe\0"
    picture = read(data[:2] + segment + data[2:])
    assert picture.icc == icc
    assert picture.notes == ("damaged and left out: APP14",)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the tag that is cut off
def test_what_is_refused_is_named(photo):
    webp, heif = encode(photo, "WEBP"), encode(photo, "HEIF")
    assert "cut short" in why(heif[:-1000])
    assert "cut short" in why(encode(photo, "TIFF")[:-1000])
    assert "cut short" in why(encode(photo, "TIFF", compression="tiff_lzw")[:-2])
    assert "not read: 3 samples of 32 bits, float" in why(make_tiff(np.float32(photo), 2))
    tiff = make_tiff(photo, 2)
    at = tiff.index(struct.pack("<HHII", 259, 3, 1, 1))
    webp_inside = tiff[: at + 8] + struct.pack("<I", 50001) + tiff[at + 12 :]
    assert "not read: 3 samples of 8 bits, compression WebP" in why(webp_inside)
    at = heif.index(b"hvc1")
    assert "not read: JPEG 2000" in why(heif[:at] + b"j2k1" + heif[at + 4 :])
    jpeg = encode(photo, "JPEG")
    at = jpeg.index(b"\xff\xc0")
    assert "not read: lossless" in why(jpeg[:at] + b"\xff\xc3" + jpeg[at + 2 :])
    assert "not read: 12 bits" in why(jpeg[: at + 4] + b"\x0c" + jpeg[at + 5 :])
    assert "damaged" in why(webp[:20] + bytes(40) + webp[60:])
    assert "damaged" in why(encode(photo, "PNG")[:30] + bytes(40))


def test_shallow_png_with_a_key_keeps_it():
    levels = np.arange(4, dtype=np.uint8).reshape(2, 2)
    picture = read(make_shallow_png(levels, 2, before=chunk(b"tRNS", b"\0\1")))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0], [255, 255]]
