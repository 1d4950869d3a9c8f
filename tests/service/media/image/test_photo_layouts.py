"""Layouts of TIFF, BMP, GIF and AVIF that libraries refuse or misread."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from service.media.image.reader import decode_image, open_image
from service.media.image.types import UndecodableImage, UnknownFormat
from tests.heif_boxes import add_properties, add_reference
from tests.helpers import encode
from tests.profiles import convert_to_srgb, make_profile
from tests.stills import LOSSLESS, read


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return portrait[:200, 100:356].copy()


def write_tiff(*pages: tuple[np.ndarray, dict], **options) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as writer:
        for pixels, tags in pages:
            writer.write(pixels, **tags)
    return buffer.getvalue()


RGB = {"photometric": "rgb"}
THUMBNAIL = RGB | {"subfiletype": 1}


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
def test_thumbnail_before_the_picture_of_a_tiff(photo, options):
    small = np.ascontiguousarray(photo[::8, ::8])
    behind = write_tiff((small, THUMBNAIL), (photo, RGB), **options)
    below = write_tiff((small, THUMBNAIL | {"subifds": 1}), (photo, RGB), **options)
    two = write_tiff((small, THUMBNAIL), (small, THUMBNAIL), (photo, RGB), (small, RGB), **options)
    for data in (behind, below, two):
        assert np.array_equal(read(data).image, photo)


def test_first_of_several_whole_pages_is_the_picture(photo):
    small = np.ascontiguousarray(photo[::2, ::2])
    assert np.array_equal(read(write_tiff((small, RGB), (photo, RGB))).image, small)
    only = write_tiff((small, THUMBNAIL), (photo, THUMBNAIL))
    assert np.array_equal(read(only).image, photo)


def test_raw_file_of_a_camera_is_named(photo):
    grey = np.ascontiguousarray(photo[..., 0])
    raw = write_tiff(
        (photo[::8, ::8].copy(), THUMBNAIL | {"subifds": 1}), (grey, {"photometric": 32803})
    )
    dng = write_tiff((photo, RGB | {"extratags": [(50706, "B", 4, (1, 4, 0, 0), True)]}))
    plain = write_tiff((photo, RGB))
    cr2 = plain[:8] + b"CR" + plain[10:]
    for data, name in ((raw, "CFA"), (dng, "DNG"), (cr2, "CR2")):
        with pytest.raises(UnknownFormat, match=f"raw file .*{name}"):
            open_image(data)
    heads = (("CR3", b"\0\0\0\x18ftypcrx "), ("RAF", b"FUJIFILMCCD-RAW "), ("RW2", b"IIU\0"))
    for name, head in (*heads, ("ORF", b"IIRO")):
        with pytest.raises(UnknownFormat, match=f"raw file .*{name}"):
            open_image(head + bytes(200))


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_of_any_depth_and_planes(photo, byteorder, compression, planar, kind):
    full = np.iinfo(kind).max // 255
    alpha = np.tile(np.arange(256, dtype=np.uint8), (200, 1))
    for layers, tags in (
        (photo, RGB),
        (np.dstack([photo, alpha]), RGB | {"extrasamples": ["unassalpha"]}),
    ):
        values = layers.astype(kind) * kind(full)
        if planar == "separate":
            values = np.moveaxis(values, -1, 0).copy()
        tags = tags | {"planarconfig": planar, "compression": compression}
        picture = read(write_tiff((values, tags), byteorder=byteorder))
        seen = alpha > 0 if layers is not photo else np.ones_like(alpha, bool)
        assert np.array_equal(picture.image[seen], photo[seen])


@pytest.mark.parametrize("scale", [1, 257])
def test_palette_tiff_with_either_depth_of_its_map(photo, scale):
    palette = Image.fromarray(photo).quantize(64)
    colours = np.zeros((3, 256), np.uint16)
    colours[:, :64] = np.array(palette.getpalette()[:192]).reshape(64, 3).T
    tags = {"photometric": "palette", "colormap": colours * np.uint16(scale)}
    for compression in (None, "zlib"):
        data = write_tiff((np.asarray(palette), tags | {"compression": compression}))
        assert np.array_equal(read(data).image, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bigtiff_of_either_byte_order(photo, byteorder, compression):
    options = {"bigtiff": True, "byteorder": byteorder}
    data = write_tiff((photo, RGB | {"compression": compression, "rowsperstrip": 16}), **options)
    assert np.array_equal(read(data).image, photo)
    tiled = write_tiff((photo, RGB | {"tile": (64, 64)}), **options)
    assert np.array_equal(read(tiled).image, photo)
    deep = write_tiff((photo[..., 0].astype(np.uint16) * 257, {}), **options)
    assert np.array_equal(read(deep).image[..., 1], photo[..., 0])


def make_bmp(
    values: np.ndarray, masks: tuple[int, ...], compression: int = 3, header: int = 40, icc=b""
) -> bytes:
    """Return a BMP, top row first, of (H, W) uint16 or uint32 bit fields."""
    height, width = values.shape
    stride = (width * values.itemsize + 3) // 4 * 4
    rows = values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(height, -1)
    pixels = np.pad(rows, ((0, 0), (0, stride - rows.shape[1]))).tobytes()
    bits = values.itemsize * 8
    info = (header, width, -height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    head = struct.pack("<IiiHHIIiiII", *info)
    packed = struct.pack(f"<{len(masks)}I", *masks)
    if header > 40:
        head = (head + packed).ljust(header, b"\0")
    elif compression:
        head += packed
    if icc:
        place = struct.pack("<II", len(head) + len(pixels), len(icc))
        head = head[:56] + b"DEBM" + head[60:112] + place + head[120:]
    offset = 14 + len(head)
    size = offset + len(pixels) + len(icc)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, offset) + head + pixels + icc


def pack_fields(layers: np.ndarray, masks: tuple[int, ...], kind: type) -> np.ndarray:
    packed = np.zeros(layers.shape[:2], np.uint64)
    for layer, mask in zip(np.moveaxis(layers, -1, 0), masks, strict=False):
        if not mask:
            continue
        shift = (mask & -mask).bit_length() - 1
        packed |= np.rint(layer / 255 * (mask >> shift)).astype(np.uint64) << np.uint64(shift)
    return packed.astype(kind)


FIELDS = {
    "4-4-4-4": (np.uint16, (0xF00, 0xF0, 0xF, 0xF000)),
    "1-5-5-5": (np.uint16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "5-6-5": (np.uint16, (0xF800, 0x7E0, 0x1F, 0)),
    "4-4-4": (np.uint16, (0xF00, 0xF0, 0xF, 0)),
    "10-10-10": (np.uint32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
    "10-10-10-2": (np.uint32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
    "8-8-8-8": (np.uint32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "RGBA": (np.uint32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
}


@pytest.mark.parametrize("header", [40, 56, 108, 124])
@pytest.mark.parametrize("name", FIELDS)
def test_bmp_of_bit_fields(photo, name, header):
    kind, masks = FIELDS[name]
    width = 255  # a row of 16 bits is padded
    alpha = np.tile(np.arange(width, dtype=np.uint8) // 255 + 100, (200, 1))
    layers = np.dstack([photo[:, :width], alpha])
    has_alpha = masks[3] > 0
    data = make_bmp(
        pack_fields(layers, masks, kind), masks, 6 if header == 40 and has_alpha else 3, header
    )
    picture = read(data)
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks if mask]
    steps = [255 / (mask >> shift) for mask, shift in zip(masks, shifts, strict=False)]
    error = np.abs(picture.image - photo[:, :width].astype(float)).reshape(-1, 3).max(0)
    hidden = has_alpha and picture.alpha is None
    if name != "1-5-5-5":  # whose alpha of 100 is none at all
        assert (error <= np.array(steps[:3]) / 2 + 1).all() and not hidden
        if has_alpha:
            assert np.abs(picture.alpha - 100.0).max() <= steps[3] / 2 + 1
    assert has_alpha or picture.alpha is None


def test_bmp_with_an_alpha_mask_and_no_bit_fields(photo):
    layers = np.dstack([photo, np.full((200, 256), 100, np.uint8)])
    masks = FIELDS["8-8-8-8"][1]
    data = make_bmp(pack_fields(layers, masks, np.uint32), masks, 0, 124)
    picture = read(data)
    assert picture.alpha is not None and (picture.alpha == 100).all()
    layers[..., 3] = 0  # nobody means a picture that cannot be seen
    picture = read(make_bmp(pack_fields(layers, masks, np.uint32), masks, 3, 124))
    assert picture.alpha is None and np.array_equal(picture.image, photo)


def test_bmp_with_a_profile(photo):
    icc, masks = make_profile("P3"), FIELDS["8-8-8-8"][1]
    layers = np.dstack([photo, np.full((200, 256), 255, np.uint8)])
    picture = read(make_bmp(pack_fields(layers, masks, np.uint32), masks, 3, 124, icc))
    assert picture.icc == icc
    assert np.abs(picture.image - convert_to_srgb("P3", photo)).max() <= 1


def test_bmp_that_is_not_read_is_named(photo):
    values = pack_fields(photo, (0xFF0000, 0xFF00, 0xFF), np.uint32)
    for masks, compression, name in (
        ((0xFF0000, 0xFFFF00, 0xFF), 3, "masks that overlap"),
        ((0xF0F000, 0xF00, 0xFF), 3, "have holes"),
        ((), 4, "JPEG"),
        ((), 5, "PNG"),
    ):
        with pytest.raises(UndecodableImage, match=f"not read: .*{name}"):
            decode_image(open_image(make_bmp(values, masks, compression)))


def make_gif(canvas: tuple[int, int], frame: tuple[int, int, int, int], key: int | None) -> bytes:
    """Return a GIF of one frame of colour 0, red; the background is colour 2, blue."""
    palette = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    data = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x91, 2, 0) + palette
    if key is not None:
        data += b"\x21\xf9\x04\x01\0\0" + bytes([key, 0])
    left, top, width, height = frame
    data += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0)
    bits = number = 0
    for code in [4, 0] * (width * height) + [5]:  # a clear code before each pixel: 3 bits for all
        bits |= code << number
        number += 3
    packed = bits.to_bytes((number + 7) // 8, "little")
    return data + b"\x02" + bytes([len(packed)]) + packed + b"\0;"


@pytest.mark.parametrize("key", [None, 3])
def test_gif_frame_smaller_than_its_canvas(key):
    picture = read(make_gif((8, 6), (2, 1, 3, 2), key))
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 2:5] = 255
    assert picture.alpha is not None and np.array_equal(picture.alpha, expected)
    assert (picture.image[1:3, 2:5] == (255, 0, 0)).all()
    assert read(make_gif((3, 2), (0, 0, 3, 2), None)).alpha is None


@pytest.mark.parametrize("box", [b"ispe", b"pixi"])
def test_avif_whose_alpha_lacks_what_strict_readers_want(photo, box):
    """As older encoders wrote them: the link from the alpha picture to a property is taken away."""
    alpha = np.tile(np.arange(256, dtype=np.uint8), (200, 1))
    data = encode(np.dstack([photo, alpha]), "AVIF", quality=100, subsampling="4:4:4")
    whole = read(data)
    order, at = [], data.index(b"ipco") + 4
    while data[at + 4 : at + 8] != b"ipma":
        order.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    numbers = [index + 1 for index, kind in enumerate(order) if kind == box]
    entry = at + 16  # of the first picture: item, count, numbers of properties
    entry += 3 + data[entry + 2]
    end = entry + 3 + data[entry + 2]
    links = data[entry + 3 : end]
    left = bytes(link for link in links if link & 0x7F not in numbers)
    assert len(left) == len(links) - 1
    loose = data[: entry + 2] + bytes([len(left)]) + left + b"\0" + data[end:]
    picture = read(loose)
    assert picture.alpha is not None and whole.alpha is not None
    assert np.abs(picture.alpha.astype(int) - whole.alpha).max() <= 1
    seen = whole.alpha > 0
    assert np.abs(picture.image.astype(int) - whole.image)[seen].mean() < 1.5


def cut_out(left: int, top: int, width: int, height: int) -> tuple[bytes, bytes]:
    """Return what leaves that of a picture of 256 x 200."""
    offsets = 2 * left + width - 256, 2 * top + height - 200
    return b"clap", struct.pack("!IIIIiIiI", width, 1, height, 1, offsets[0], 2, offsets[1], 2)


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_part_that_a_heif_cuts_off_is_not_shown(photo, format):
    data = encode(photo, format, **LOSSLESS[format])
    part = photo[31:110, 20:121]
    plain = read(add_properties(data, cut_out(20, 31, 101, 79)))
    assert plain.image.shape == part.shape and np.abs(plain.image - part.astype(int)).mean() < 1.5
    turned = read(add_properties(data, cut_out(20, 31, 101, 79), (b"irot", b"\1")))
    assert np.abs(turned.image - np.rot90(part).astype(int)).mean() < 1.5
    whole = read(add_properties(data, cut_out(0, 0, 256, 200)))
    assert whole.image.shape == photo.shape


def test_tiff_of_32_bits_that_does_not_say_its_kind(photo):
    """Without a SampleFormat numbers have no sign (TIFF 6.0)."""
    grey = np.ascontiguousarray(photo[..., 0])
    data = write_tiff((grey.astype(np.uint32) * np.uint32(0x01010101), {}))
    assert 339 not in tifffile.TiffFile(io.BytesIO(data)).pages[0].tags
    assert np.array_equal(read(data).image[..., 1], grey)


def test_premultiplied_alpha_of_a_heif(photo):
    alpha = np.tile(np.linspace(60, 255, 256).astype(np.uint8), (200, 1))
    dark = np.rint(photo * (alpha[..., np.newaxis] / 255)).astype(np.uint8)
    data = encode(np.dstack([dark, alpha]), "HEIF", **LOSSLESS["HEIF"])
    picture = read(add_reference(data, b"prem", 1, 2))
    assert picture.alpha is not None and np.array_equal(picture.alpha, alpha)
    assert np.abs(picture.image - photo.astype(int)).max() <= 5
    assert picture.notes == ()
