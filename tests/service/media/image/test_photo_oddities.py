"""Legal files of rare kinds, and files that break a rule of their format."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.media.image.types import UndecodableImage
from tests.helpers import encode
from tests.hostile import chunk, make_png
from tests.profiles import convert_to_srgb, make_profile
from tests.stills import read


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return portrait[:64, 100:196].copy()


def make_animation(frame: np.ndarray, canvas: tuple[int, int], place: tuple[int, int]) -> bytes:
    """Return a WebP of two frames; the first is `frame`, its upper left corner at `place`."""

    def pack(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def pack_numbers(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(3, "little") for number in numbers)

    frames = b""
    for pixels in (frame, 255 - frame):
        height, width = pixels.shape[:2]
        still = encode(Image.fromarray(pixels), "WEBP", lossless=True)
        at = still.index(b"VP8L")
        head = pack_numbers(place[0] // 2, place[1] // 2, width - 1, height - 1, 100)
        frames += pack(b"ANMF", head + b"\0" + still[at:])
    flags = 0x02 | 0x10 * (frame.shape[2] == 4)
    header = pack(b"VP8X", bytes([flags, 0, 0, 0]) + pack_numbers(canvas[0] - 1, canvas[1] - 1))
    body = b"WEBP" + header + pack(b"ANIM", bytes([255, 0, 0, 255, 0, 0])) + frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_frame_smaller_than_its_canvas(photo, channels):
    """Whatever background it names: browsers show none."""
    frame = photo if channels == 3 else np.dstack([photo, np.full((64, 96), 200, np.uint8)])
    picture = read(make_animation(frame, (120, 100), (20, 10)))
    expected = np.zeros((100, 120), np.uint8)
    expected[10:74, 20:116] = 255 if channels == 3 else 200
    assert picture.alpha is not None and np.array_equal(picture.alpha, expected)
    assert np.array_equal(picture.image[10:74, 20:116], photo)
    whole = read(make_animation(frame, (96, 64), (0, 0)))
    assert (whole.alpha is None) == (channels == 3) and np.array_equal(whole.image, photo)


def find_palette(data: bytes) -> tuple[int, int]:
    at = data.index(b"PLTE") - 4
    return at, at + 12 + int.from_bytes(data[at : at + 4])


def test_png_without_its_palette_is_refused(photo):
    data = encode(Image.fromarray(photo).quantize(64), "PNG")
    start, end = find_palette(data)
    with pytest.raises(UndecodableImage, match="the PNG has no palette"):
        read(data[:start] + data[end:])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_that_is_too_short_is_told(photo, format):
    image = Image.fromarray(photo).quantize(64)
    data = encode(image, format, **({"interlace": 0} if format == "GIF" else {}))
    assert read(data).notes == ()
    if format == "PNG":
        start, end = find_palette(data)
        data = data[:start] + chunk(b"PLTE", data[start + 8 : start + 8 + 3 * 20]) + data[end:]
    else:
        assert data[10] & 0x87 == 0x85, "64 colours"
        data = data[:10] + bytes([data[10] & 0xF8 | 3]) + data[11 : 13 + 3 * 16] + data[13 + 192 :]
    picture = read(data)
    assert picture.notes == ("colours that its palette lacks are black",)
    count = 20 if format == "PNG" else 16
    there = np.asarray(image) < count
    assert np.array_equal(picture.image[there], np.asarray(image.convert("RGB"))[there])
    assert (picture.image[~there] == 0).all()


def test_png_of_apple_is_named(photo):
    """What Xcode makes of PNGs: pixels without the wrapper of zlib, blue first."""
    packing = zlib.compressobj(wbits=-15)
    pixels = np.dstack([photo[..., ::-1], np.full((64, 96), 255, np.uint8)])
    rows = packing.compress(b"".join(b"\0" + row.tobytes() for row in pixels)) + packing.flush()
    png = make_png(96, 64, colour=6, idat=rows)
    with pytest.raises(UndecodableImage, match="a coding of PNG that is not read: .*CgBI"):
        read(png[:8] + chunk(b"CgBI", b"\x50\0\x20\6") + png[8:])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpeg_whose_height_comes_behind_its_pixels(photo, options):
    """A DNL marker (ITU-T T.81, B.2.5), as some scanners write it."""
    data = encode(photo, "JPEG", quality=95, **options)
    whole = read(data).image
    at = data.index(b"\xff\xc2" if "progressive" in options else b"\xff\xc0") + 5
    first = data.index(b"\xff\xda")
    behind = data.find(b"\xff\xc4", first) if "progressive" in options else len(data) - 2
    without = data[:at] + bytes(2) + data[at + 2 : behind]
    picture = read(without + b"\xff\xdc\0\4\0\x40" + data[behind:])
    assert np.array_equal(picture.image, whole) and picture.notes == ()
    with pytest.raises(UndecodableImage, match="damaged"):
        read(without + data[behind:])


def mark_adobe_rgb(colour_space: int | None, index: str | None) -> bytes:
    exif = Image.Exif()
    if colour_space is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = colour_space
    if index is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    exif[ExifTags.Base.Make] = "Camera"
    return exif.tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("colour_space", "index", "is_adobe"),
    [
        (0xFFFF, "R03", True),
        (None, "R03", True),
        (2, None, True),
        (0xFFFF, None, False),
        (1, "R03", False),
        (1, "R98", False),
    ],
)
def test_adobe_rgb_by_the_mark_of_cameras(photo, colour_space, index, is_adobe, progressive):
    """DCF 2.0 and Exif 2.21: such files have no profile."""
    exif = mark_adobe_rgb(colour_space, index)
    options = {"quality": 100, "subsampling": 0, "progressive": progressive}
    plain = read(encode(photo, "JPEG", **options)).image
    picture = read(encode(photo, "JPEG", exif=exif, **options))
    wanted = convert_to_srgb("Adobe RGB", plain) if is_adobe else plain
    assert np.abs(picture.image - wanted).max() <= 1
    told = ("colours converted from Adobe RGB gamma 2.2 to sRGB",) if is_adobe else ()
    assert picture.notes == told


def test_profile_counts_before_the_mark_of_cameras(photo):
    options = {"quality": 100, "subsampling": 0}
    plain = read(encode(photo, "JPEG", **options)).image
    exif, icc = mark_adobe_rgb(0xFFFF, "R03"), make_profile("P3")
    picture = read(encode(photo, "JPEG", exif=exif, icc_profile=icc, **options))
    assert np.abs(picture.image - convert_to_srgb("P3", plain)).max() <= 1
    assert picture.icc == icc and picture.notes == ()


def test_exif_of_a_result_does_not_say_its_colours(photo):
    """They are sRGB, or those of a profile."""
    carried = read(encode(photo, "JPEG", exif=mark_adobe_rgb(2, "R03"))).exif
    exif = Image.Exif()
    exif.load(carried)
    assert exif[ExifTags.Base.Make] == "Camera"
    assert ExifTags.Base.ColorSpace not in exif.get_ifd(ExifTags.IFD.Exif)
    assert not exif.get_ifd(ExifTags.IFD.Interop)


MANY = {
    "GIF": "of an animation the first frame",
    "PNG": "of 3 frames the first",
    "WEBP": "of 3 frames the first",
    "AVIF": "of 3 frames the first",
    "TIFF": "of 3 pages the first",
    "HEIF": "of 3 pictures the main one",
}


@pytest.mark.parametrize("format", MANY)
def test_pictures_that_are_not_read_are_told(photo, format):
    first, *others = (Image.fromarray(np.roll(photo, 9 * n, axis=1)) for n in range(3))
    assert read(encode(first, format)).notes == ()
    picture = read(encode(first, format, save_all=True, append_images=others))
    assert picture.notes == (MANY[format],)
    assert np.abs(picture.image.astype(int) - photo).mean() < 12


def test_small_version_in_a_tiff_is_no_second_page(photo):
    first, small = Image.fromarray(photo), Image.fromarray(photo[::4, ::4])
    small.encoderinfo = {"tiffinfo": {254: 1}}  # the tag that says "reduced"
    assert read(encode(first, "TIFF", save_all=True, append_images=[small])).notes == ()


def test_animation_of_one_frame_is_told_no_others(photo):
    still = encode(Image.fromarray(photo), "GIF")
    comment = b"!\xfe\x05hello\0"
    assert read(still[:-1] + comment + still[-1:]).notes == ()


@pytest.mark.parametrize("format", MANY)
def test_much_behind_a_picture_is_neither_read_nor_told(photo, format):
    still = encode(Image.fromarray(photo), format)
    assert read(still + bytes(2 << 20)).notes == ()
