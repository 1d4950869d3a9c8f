"""Photos that are damaged in the middle of their pixels: refused, cut, or read and told."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from service.media.decoder.client import Decoder
from service.media.image.damage import DAMAGED
from service.media.image.reader import decode_image, open_image
from service.media.image.types import UndecodableImage
from service.settings import Settings
from tests.helpers import encode
from tests.stills import read

JPEGS = {
    "RGB": ("RGB", {"quality": 90}),
    "4:4:4": ("RGB", {"quality": 90, "subsampling": 0}),
    "optimised": ("RGB", {"quality": 90, "optimize": True}),
    "grey": ("L", {"quality": 90}),
    "CMYK": ("CMYK", {"quality": 90}),
    "restarts": ("RGB", {"quality": 90, "restart_marker_rows": 2}),
    "progressive": ("RGB", {"quality": 90, "progressive": True}),
}
LENGTH = 512  # of a sector


def replace(data: bytes, at: int, how: str) -> bytes:
    """Return a file whose sector at a place has been written over, or is gone."""
    noise = np.random.default_rng(at).integers(0, 256, LENGTH, np.uint8)
    new = {"lost": b"", "zeros": bytes(LENGTH), "noise": noise.tobytes()}
    new["noise without FF"] = np.minimum(noise, 0xFE).tobytes()
    return data[:at] + new[how] + data[at + LENGTH :]


def judge(data: bytes, whole: np.ndarray) -> str:
    """Say what is told of a file: refused, cut, noted, exact or silent."""
    try:
        picture = decode_image(open_image(data))
    except UndecodableImage:
        return "refused"
    if picture.rows_there < 1:
        return "cut"
    if picture.notes:
        return "noted"
    return "exact" if np.array_equal(picture.image, whole) else "silent"


def count(data: bytes, how: str) -> dict[str, int]:
    """Return how often each is told of a file that is damaged at twelve places."""
    whole = read(data).image
    places = np.linspace(0.15, 0.9, 12)
    told = [judge(replace(data, int(len(data) * place), how), whole) for place in places]
    return {name: told.count(name) for name in set(told)}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("how", ["noise", "noise without FF", "lost"])
def test_jpeg_damaged_inside_its_pixels(portrait, name, how) -> None:
    mode, options = JPEGS[name]
    data = encode(Image.fromarray(portrait).convert(mode), "JPEG", **options)
    assert read(data).notes == ()
    told = count(data, how)
    assert told.get("silent", 0) <= (2 if how == "lost" else 1), told


def test_sector_of_zeros_in_a_jpeg(portrait) -> None:
    """Zeros may be code, so some of these are not found; docs say so."""
    data = encode(Image.fromarray(portrait), "JPEG", quality=90)
    assert count(data, "zeros").get("silent", 0) <= 3


def test_marker_among_the_pixels_of_a_jpeg(portrait) -> None:
    """Behind it nothing is decoded: its rows are missing, and less than half are refused."""
    data = encode(Image.fromarray(portrait), "JPEG", quality=90)
    whole, height = read(data).image, portrait.shape[0]
    at = int(len(data) * 0.8)
    picture = read(data[:at] + b"\xff\xfe" + data[at:])
    rows = round(picture.rows_there * height)
    assert height / 2 < rows < height * 0.95
    assert np.array_equal(picture.image[:rows], whole[:rows])
    at = len(data) // 4
    assert judge(data[:at] + b"\xff\xfe" + data[at:], whole) == "refused"


@pytest.mark.parametrize("rest", [bytes(40), b"\xff" * 7, b"\0\xff"])
def test_end_of_a_jpeg_that_is_filled_up_is_no_damage(portrait, rest: bytes) -> None:
    data = encode(Image.fromarray(portrait), "JPEG", quality=90)
    picture = read(data[:-2] + rest + data[-2:])
    assert np.array_equal(picture.image, read(data).image)
    assert picture.notes == () and picture.rows_there == 1


@pytest.mark.parametrize(
    ("format", "mode", "options", "unseen"),
    [
        ("WEBP", "RGB", {"quality": 60}, 0),
        ("WEBP", "RGB", {"quality": 95}, 0),
        ("WEBP", "RGBA", {"quality": 90}, 1),
        ("AVIF", "RGB", {"quality": 80}, 0),
        ("AVIF", "RGBA", {"quality": 80}, 0),
        ("HEIF", "RGB", {"quality": 80}, 2),
        ("HEIF", "RGB", {"quality": 95, "chroma": 444}, 1),
    ],
)
@pytest.mark.parametrize("how", ["noise", "lost"])
def test_coded_pixels_that_are_damaged(portrait, format, mode, options, unseen, how) -> None:
    """All but a few, whose decoder comes to the end of the file all the same."""
    data = encode(Image.fromarray(portrait).convert(mode), format, **options)
    assert read(data).notes == ()
    told = count(data, how)
    assert told.get("silent", 0) <= unseen, told


def make_webp_of_parts(pixels: np.ndarray, parts: int) -> bytes:
    """Return a lossy WebP of (H, W, 3) whose rows of blocks lie in so many parts in turn."""
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"slices": str(parts), "crf": "10", "b": "5M"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
    frame = frame.reformat(format="yuv420p")
    (packet,) = [*encoder.encode(frame), *encoder.encode(None)]
    coded = bytes(packet)
    chunk = b"VP8 " + struct.pack("<I", len(coded)) + coded + bytes(len(coded) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("how", ["noise", "zeros"])
def test_webp_whose_pixels_lie_in_parts(portrait, parts: int, how: str) -> None:
    data = make_webp_of_parts(portrait, parts)
    assert read(data).notes == ()
    whole = read(data).image
    places = np.linspace(0.25, 0.9, 12)
    told = [judge(replace(data, int(len(data) * place), how), whole) for place in places]
    assert told.count("silent") <= 1, told


@pytest.mark.parametrize("parts", [1, 4, 8])
def test_sound_webp_of_parts_with_little_in_them_is_not_called_damaged(portrait, parts) -> None:
    for rows in (slice(0), slice(100, None), slice(0, 300), slice(None)):
        pixels = portrait.copy()
        pixels[rows] = 255
        assert read(make_webp_of_parts(pixels, parts)).notes == ()
        assert read(make_webp_of_parts(pixels[:40, :24], parts)).notes == ()


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("size", [(1, 1), (3, 400), (64, 64), (600, 600)])
def test_sound_pictures_of_one_colour_are_not_called_damaged(format, size) -> None:
    for colour in ("white", "black", (12, 200, 90)):
        for quality in (10, 90):
            data = encode(Image.new("RGB", size, colour), format, quality=quality)
            assert read(data).notes == ()


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "HEIF", "JPEG"])
def test_sound_pictures_with_an_empty_half_are_not_called_damaged(portrait, format) -> None:
    for part in (slice(250, None), slice(0, 250)):
        pixels = portrait.copy()
        pixels[part] = 255
        assert read(encode(Image.fromarray(pixels), format, quality=80)).notes == ()


def test_what_is_told_of_a_damaged_jpeg(portrait) -> None:
    data = encode(Image.fromarray(portrait), "JPEG", quality=90)
    assert read(replace(data, len(data) // 2, "noise without FF")).notes == (DAMAGED,)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_damage_is_found_in_a_confined_child(portrait, format) -> None:
    data = encode(Image.fromarray(portrait), format, quality=90)
    child = Decoder(Settings())
    try:
        for content, notes in (
            (data, ()),
            (replace(data, len(data) // 2, "noise without FF"), (DAMAGED,)),
        ):
            child.open_image(content)
            assert child.decode_image().notes == notes
    finally:
        child.close()
