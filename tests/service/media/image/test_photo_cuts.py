"""Files of every format that end early: refused in words, or read and told, never made up."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.media.image.reader import decode_image, open_image
from service.media.image.types import UndecodableImage, UnknownFormat
from tests.helpers import encode
from tests.hostile import make_png
from tests.stills import read

SHARES = (0.02, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 0.995)
END = b"\xff\xd9"


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return portrait[:160, 100:292].copy()


def make_interlaced_png(image: np.ndarray) -> bytes:
    """Return a PNG whose pixels come in the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    parts = [image[y::dy, x::dx] for y, x, dy, dx in [*passes, (1, 0, 2, 1)]]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    png = bytearray(make_png(image.shape[1], image.shape[0], colour=2, idat=zlib.compress(rows)))
    png[28] = 1
    png[29:33] = struct.pack("!I", zlib.crc32(png[12:29]))
    return bytes(png)


def put_directory_first(tiff: bytes) -> bytes:
    """Return a TIFF of Pillow's, little endian, with its directory before its pixels."""
    (start,) = struct.unpack_from("<I", tiff, 4)
    block = bytearray(tiff[start:])

    def move(place: int) -> int:
        return place - start + 8 if place >= start else place + len(block)

    pixels = bytearray(tiff[8:start])
    (count,) = struct.unpack_from("<H", block, 0)
    for at in range(2, 2 + 12 * count, 12):
        tag, type, length = struct.unpack_from("<HHI", block, at)
        size = length * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[type]
        (place,) = struct.unpack_from("<I", block, at + 8)
        if size > 4:
            struct.pack_into("<I", block, at + 8, move(place))
        if tag == 273:
            inside = (block, place - start) if place >= start else (pixels, place - 8)
            target, first = (block, at + 8) if size <= 4 else inside
            for index in range(length):
                (strip,) = struct.unpack_from("<I", target, first + 4 * index)
                struct.pack_into("<I", target, first + 4 * index, move(strip))
    return tiff[:4] + struct.pack("<I", 8) + bytes(block) + bytes(pixels)


def make_all(photo: np.ndarray) -> dict[str, bytes]:
    image = Image.fromarray(photo)

    def make(format: str, mode: str = "RGB", **options) -> bytes:
        changed = image.quantize() if mode == "P" else image.convert(mode)
        return encode(changed, format, **options)

    files = {
        "JPEG": make("JPEG"),
        "JPEG, progressive": make("JPEG", progressive=True),
        "JPEG, CMYK": make("JPEG", "CMYK"),
        "PNG": make("PNG"),
        "PNG, palette": make("PNG", "P"),
        "PNG, alpha": make("PNG", "RGBA"),
        "PNG, interlaced": make_interlaced_png(photo),
        "WebP": make("WEBP"),
        "WebP, alpha": make("WEBP", "RGBA"),
        "WebP, lossless": make("WEBP", lossless=True),
        "AVIF": make("AVIF"),
        "AVIF, alpha": make("AVIF", "RGBA"),
        "HEIF": make("HEIF"),
        "BMP": make("BMP"),
        "BMP, palette": make("BMP", "P"),
        "GIF": make("GIF", "P", interlace=0),
        "GIF, interlaced": make("GIF", "P", interlace=1),
    }
    kinds = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4")
    for kind in kinds:
        mode = "1" if kind.startswith("group") else "RGB"
        tiff = make("TIFF", mode, compression=kind)
        files[f"TIFF, {kind}"] = tiff
        files[f"TIFF, {kind}, directory first"] = put_directory_first(tiff)
    return files


NAMES = list(make_all(np.zeros((16, 16, 3), np.uint8)))


@pytest.fixture(scope="module")
def files(photo) -> dict[str, bytes]:
    return make_all(photo)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about tags that are cut off
@pytest.mark.parametrize("name", NAMES)
def test_no_pixel_of_a_cut_file_is_made_up_in_silence(files, name) -> None:
    data = files[name]
    whole = read(data).image
    refused = 0
    for end in [*(int(len(data) * share) for share in SHARES), len(data) - 2, len(data) - 1]:
        try:
            picture = decode_image(open_image(data[:end]))
        except (UndecodableImage, UnknownFormat) as error:
            refused += 1
            told = ("cut short", "ends early", "not read", "none of", "header")
            assert any(word in str(error) for word in told), str(error)
            continue
        if picture.rows_there == 1 and not picture.notes:
            # What FFmpeg makes of a WebP differs in its rounding.
            most = 24 if name.startswith("WebP") else 0
            assert np.abs(picture.image.astype(int) - whole).max() <= most, end
    assert refused >= 2


@pytest.mark.parametrize("share", SHARES)
def test_progressive_jpeg_closed_early(photo, files, share) -> None:
    """Cut anywhere, then closed by an end marker, as programs do that mend files."""
    data = files["JPEG, progressive"]
    whole = read(data)
    assert whole.notes == ()
    cut = data[: int(len(data) * share)].rstrip(b"\xff") + END
    try:
        picture = read(cut)
    except UndecodableImage as error:
        assert share < 0.5 and str(error)
        return
    assert picture.rows_there < 1 or any("coarser" in note for note in picture.notes)


def test_progressive_jpeg_without_its_last_scans(files) -> None:
    data = files["JPEG, progressive"]
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    for end in scans[1:]:
        end = (
            data.rindex(b"\xff\xc4", 0, end) if data.find(b"\xff\xc4", end - 200, end) > 0 else end
        )
        try:
            picture = read(data[:end] + END)
        except UndecodableImage as error:
            assert "cut short" in str(error)
            continue
        assert any("coarser" in note for note in picture.notes)


def make_scan_for_each_colour(photo: np.ndarray) -> list[bytes]:
    """Return the parts of a sequential JPEG: its header, then the scan of Y, Cb and Cr."""
    planes = Image.fromarray(photo).convert("YCbCr").split()
    greys = [encode(plane, "JPEG", quality=90) for plane in planes]
    frame = greys[0].index(b"\xff\xc0")
    height, width = photo.shape[:2]
    three = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    sof = struct.pack("!BBHBHHB", 0xFF, 0xC0, 17, 8, height, width, 3) + three
    scan = greys[0].index(b"\xff\xda")
    parts = [greys[0][:frame] + sof + greys[0][frame + 13 : scan]]
    for number, grey in enumerate(greys, 1):
        at = grey.index(b"\xff\xda")
        parts.append(grey[at : at + 5] + bytes([number]) + grey[at + 6 : -2])
    return parts


def test_jpeg_without_one_of_its_colours_is_refused(photo) -> None:
    parts = make_scan_for_each_colour(photo)
    whole = read(b"".join(parts) + END)
    assert np.abs(whole.image.astype(int) - photo).mean() < 4
    for count in (2, 3):
        for end in (b"", END):
            with pytest.raises(UndecodableImage, match="cut short"):
                read(b"".join(parts[:count]) + end)
    # In the last one rows are missing as in any file.
    picture = read(b"".join(parts)[: -len(parts[3]) // 4])
    assert 0.5 < picture.rows_there < 1
    rows = int(picture.rows_there * len(photo)) - 8
    assert np.abs(picture.image[:rows].astype(int) - whole.image[:rows]).max() <= 1


def test_picture_behind_a_cut_jpeg_does_not_hide_it(photo, files) -> None:
    """Phones put a second picture behind the first one."""
    data = files["JPEG"]
    assert np.array_equal(read(data + data).image, read(data).image)
    cut = data[: len(data) * 4 // 5].rstrip(b"\xff") + END
    assert read(cut + data).rows_there == read(cut).rows_there < 1


def test_samples_that_are_signed_bytes_are_refused() -> None:
    from tests.raw_images import make_tiff

    with pytest.raises(UndecodableImage, match="8 bits, signed"):
        read(make_tiff(np.zeros((8, 8, 1), np.int8), 1))


def test_cut_bmp_is_named(files) -> None:
    for name in ("BMP", "BMP, palette"):
        with pytest.raises(UndecodableImage, match="cut short: it ends"):
            read(files[name][:-1000])
    buffer = io.BytesIO()
    Image.new("L", (3, 3)).save(buffer, "BMP")
    assert read(buffer.getvalue()).image.shape == (3, 3, 3)
