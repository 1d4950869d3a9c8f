"""EXIF that a result may carry: the photo's, upright, without what is no longer true."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.media.image.exif import MAX_EXIF_BYTES
from tests.helpers import encode
from tests.hostile import chunk
from tests.stills import LOSSLESS, read, store

Base, IFD = ExifTags.Base, ExifTags.IFD
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def make_exif(*, orientation: int = 1, notes: bytes = b"") -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    exif[Base.Make] = "Maker"
    exif[Base.DateTime] = "2026:01:02 03:04:05"
    details = {Base.ExposureTime: 0.01, Base.ISOSpeedRatings: 200, Base.ExifImageWidth: 40}
    if notes:
        details[IFD.MakerNote] = notes
    exif[IFD.Exif] = details
    exif[IFD.GPSInfo] = {1: "N", 2: (48.0, 8.0, 30.0)}
    return exif


def load(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


@pytest.mark.parametrize("format", sorted(LOSSLESS))
def test_exif_is_carried_along_upright(format):
    exif = make_exif(orientation=6)
    picture = read(encode(PICTURE, format, exif=exif.tobytes(), **LOSSLESS[format]))
    kept = load(picture.exif)
    assert kept[Base.Make] == "Maker" and kept[Base.DateTime] == "2026:01:02 03:04:05"
    assert Base.Orientation not in kept
    details = kept.get_ifd(IFD.Exif)
    assert details[Base.ISOSpeedRatings] == 200 and details[Base.ExposureTime] == 0.01
    assert Base.ExifImageWidth not in details, "the result may have another size"
    assert kept.get_ifd(IFD.GPSInfo)[2] == (48.0, 8.0, 30.0)


@pytest.mark.parametrize("format", sorted(LOSSLESS))
def test_picture_without_exif_has_none(format):
    assert read(encode(PICTURE, format, **LOSSLESS[format])).exif == b""
    assert read(store(PICTURE, 6, format, **LOSSLESS[format])).exif == b"", "orientation is no more"


def test_thumbnail_is_dropped():
    thumbnail = encode(PICTURE, "JPEG") + b"marker of the thumbnail"
    first = struct.pack("<HHHII", 1, Base.Make, 2, 4, int.from_bytes(b"Me!\0", "little"))
    second = struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 8 + 18 + 30, 0x0202, 4, 1, len(thumbnail))
    tiff = b"II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", 26) + second + bytes(4)
    data = b"Exif\0\0" + tiff + thumbnail
    assert load(data).get_ifd(IFD.IFD1)[0x0202] == len(thumbnail), "the test's EXIF is sound"
    kept = read(encode(PICTURE, "JPEG", exif=data)).exif
    assert load(kept)[Base.Make] == "Me!"
    assert b"marker" not in kept and not load(kept).get_ifd(IFD.IFD1)


@pytest.mark.parametrize("size", [50_000, 64_000])
def test_private_notes_are_kept_where_they_fit(size):
    exif = read(encode(PICTURE, "PNG", exif=make_exif(notes=b"n" * size).tobytes())).exif
    assert load(exif).get_ifd(IFD.Exif)[IFD.MakerNote] == b"n" * size


def test_private_notes_go_first_when_the_exif_is_too_long():
    exif = make_exif(notes=b"n" * 70_000)
    kept = load(read(encode(PICTURE, "PNG", exif=exif.tobytes())).exif)
    assert IFD.MakerNote not in kept.get_ifd(IFD.Exif)
    assert kept.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] == 200


def test_exif_that_is_too_long_all_the_same_is_dropped():
    exif = make_exif()
    exif[Base.ImageDescription] = "long " * 20_000
    data = exif.tobytes()
    assert len(data) > MAX_EXIF_BYTES
    assert read(encode(PICTURE, "PNG", exif=data)).exif == b""


def test_tags_of_a_tiff_about_its_own_pixels_are_no_exif():
    data = encode(PICTURE, "TIFF", exif=make_exif().tobytes())
    kept = load(read(data).exif)
    assert kept[Base.Make] == "Maker"
    assert not {Base.StripOffsets, Base.ImageWidth, Base.Compression} & set(kept)


BROKEN = {
    "garbage": b"garbage " * 20,
    "cut": make_exif().tobytes()[:60],
    "empty": b"Exif\0\0",
    "no tags": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0",
    "a loop": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8),
    "a date as a float": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x132, 12, 1, 8, 0),
    "a count that lies": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x10F, 2, 2**31, 8),
    "an orientation in words": b"Exif\0\0II*\0\x08\0\0\0"
    + struct.pack("<HHHI4sI", 1, 274, 2, 4, b"six\0", 0),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_costs_nobody_the_photo(name, format):
    picture = read(encode(PICTURE, format, exif=BROKEN[name], **LOSSLESS[format]))
    assert np.abs(picture.image.astype(int) - PICTURE).mean() <= 1.5
    assert len(picture.exif) < 200


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_exif_of_a_png_is_found_before_and_behind_its_pixels(place):
    exif = make_exif()
    exif[Base.Orientation] = 6
    data = encode(PICTURE, "PNG")
    at = data.index(place) - 4
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    picture = read(data[:at] + chunk(b"eXIf", content) + data[at:])
    assert np.array_equal(picture.image, np.rot90(PICTURE, -1))
    assert b"Maker" in picture.exif
