"""Colour that is described by codes or numbers and not by a profile: what is seen is sRGB."""

import io
import struct

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from service.media.colour.transfer import encode_pq
from service.media.image.reader import open_image
from service.media.image.types import UndecodableImage
from tests.helpers import encode
from tests.hostile import chunk
from tests.profiles import convert_to_srgb, encode_srgb, make_profile
from tests.raw_images import make_deep_png
from tests.service.media.colour.test_colour_conversion import TO_BT2020, code_as
from tests.stills import LOSSLESS, read, store

P3_CHRM = struct.pack("!8I", *(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
SRGB_CHRM = struct.pack("!8I", *(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))


@pytest.fixture(scope="module")
def colours(portrait) -> np.ndarray:
    """A photo above, saturated colours below: (64, 64, 3)."""
    photo = np.asarray(Image.fromarray(portrait[:256, 100:356]).resize((64, 48)))
    random = np.random.default_rng(0).integers(0, 256, (4, 16, 3), dtype=np.uint8)
    return np.concatenate([photo, random.repeat(4, 0).repeat(4, 1)])


def differ(picture, expected: np.ndarray) -> float:
    return float(np.abs(picture.image - np.asarray(expected, float)).mean())


def encode_deep_heif(codes: np.ndarray, primaries: int, transfer: int, mode: str = "RGB") -> bytes:
    """Return a HEIC of ten bits whose `nclx` names primaries and transfer."""
    height, width = codes.shape[:2]
    buffer = io.BytesIO()
    heif = pillow_heif.from_bytes(f"{mode};16", (width, height), codes.tobytes())
    codes_of = {"color_primaries": primaries, "transfer_characteristics": transfer}
    heif.save(buffer, quality=-1, chroma=444, matrix_coefficients=0, **codes_of)
    return buffer.getvalue()


def encode_deep_avif(codes: np.ndarray, primaries: int, transfer: int) -> bytes:
    """Return an AVIF of ten bits, its chroma at half the resolution."""
    height, width = codes.shape[:2]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"crf": "1", "preset": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = 9, 2
        frame = av.VideoFrame.from_ndarray(codes, format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=2)
        frame.color_primaries, frame.color_trc, frame.pts = primaries, transfer, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def make_described_png(image: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    data = encode(image, "PNG")
    return data[:33] + b"".join(chunk(*one) for one in chunks) + data[33:]


@pytest.mark.parametrize("transfer, name", [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("orientation", [1, 6])
def test_sdr_portrait_as_hdr_heic(colours, transfer, name, orientation):
    stored = np.rot90(colours) if orientation == 6 else colours
    data = encode_deep_heif(code_as(transfer, stored), 9, transfer)
    if orientation == 6:
        image = Image.open(io.BytesIO(data))
        exif = Image.Exif()
        exif[0x0112] = 6
        heif = pillow_heif.from_bytes("RGB;16", image.size, code_as(transfer, stored).tobytes())
        buffer = io.BytesIO()
        heif.save(
            buffer,
            quality=-1,
            chroma=444,
            matrix_coefficients=0,
            color_primaries=9,
            transfer_characteristics=transfer,
            exif=exif.tobytes(),
        )
        data = buffer.getvalue()
    picture = read(data)
    assert differ(picture, colours) < 1.5
    assert picture.own is None and picture.icc == b""
    assert any(f"BT.2020 {name}" in note for note in picture.notes)


def test_highlights_of_pq_are_mapped_and_told(colours):
    codes = code_as(16, colours)
    codes[:8, :8] = round(float(encode_pq(np.array(1000.0))) * 65535)
    picture = read(encode_deep_heif(codes, 9, 16))
    assert (picture.image[:8, :8] >= 254).all()
    assert differ(picture, colours) < 8
    assert any("tone-mapped" in note for note in picture.notes)
    white = np.full_like(colours, 255)
    codes = code_as(16, white)
    codes[:8, :8] = 65535
    assert read(encode_deep_heif(codes, 9, 16)).image[32:].min() >= 0.85 * 255


def test_grey_hdr_heic(colours):
    grey = np.repeat(colours[:, :, :1], 3, 2)
    codes = np.ascontiguousarray(code_as(16, grey)[:, :, 0])
    assert differ(read(encode_deep_heif(codes, 9, 16, "L")), grey) < 1.5


def test_hdr_heic_with_alpha(colours):
    alpha = np.tile(np.arange(0, 64, dtype=np.uint16) * 1023, (64, 1))
    codes = np.dstack([code_as(16, colours), alpha])
    picture = read(encode_deep_heif(codes, 9, 16, "RGBA"))
    assert picture.alpha is not None
    assert np.abs(picture.alpha - alpha / 257).max() < 2
    assert (picture.image[picture.alpha == 0] == 255).all()
    seen = picture.alpha > 0
    assert np.abs(picture.image.astype(int) - colours)[seen].mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 6])
def test_display_p3_heic(colours, orientation):
    options = LOSSLESS["HEIF"] | {"color_primaries": 12, "transfer_characteristics": 13}
    picture = read(store(colours, orientation, "HEIF", **options))
    assert differ(picture, convert_to_srgb("P3", colours)) < 0.5
    assert differ(picture, colours) > 3, "the conversion does something"


def test_icc_profile_of_a_heic_counts_before_codes(colours):
    options = LOSSLESS["HEIF"] | {"color_primaries": 9, "transfer_characteristics": 16}
    picture = read(encode(colours, "HEIF", icc_profile=make_profile("P3"), **options))
    assert differ(picture, convert_to_srgb("P3", colours)) < 0.5


def test_codes_of_srgb_change_nothing(colours):
    for transfer in (1, 13):
        options = LOSSLESS["HEIF"] | {"color_primaries": 1, "transfer_characteristics": transfer}
        picture = read(encode(colours, "HEIF", **options))
        assert np.array_equal(picture.image, colours) and picture.notes == ()


@pytest.mark.parametrize("size", [(128, 128), (129, 127)])
@pytest.mark.parametrize("transfer", [16, 18])
def test_sdr_portrait_as_hdr_avif(portrait, transfer, size):
    photo = np.asarray(Image.fromarray(portrait[:256, 100:356]).resize(size))
    picture = read(encode_deep_avif(code_as(transfer, photo), 9, transfer))
    assert differ(picture, photo) < 4  # half the chroma
    assert abs(picture.image.mean() - photo.mean()) < 1


def test_display_p3_avif(colours):
    data = encode(colours, "AVIF", **LOSSLESS["AVIF"])
    at = data.index(b"nclx") + 4
    data = data[:at] + struct.pack("!HH", 12, 13) + data[at + 4 :]
    picture = read(data)
    assert differ(picture, convert_to_srgb("P3", colours)) < 2
    assert differ(picture, colours) > 3


def test_linear_png_by_gamma(colours):
    picture = read(make_described_png(colours, (b"gAMA", struct.pack("!I", 100_000))))
    assert differ(picture, np.rint(encode_srgb(colours / 255))) < 0.6


def test_gamma_of_a_png_with_p3_primaries(colours):
    chunks = (b"gAMA", struct.pack("!I", 45455)), (b"cHRM", P3_CHRM)
    picture = read(make_described_png(colours, *chunks))
    assert differ(picture, convert_to_srgb("P3", colours)) < 2
    assert differ(picture, colours) > 3


@pytest.mark.parametrize("chunks", [(), ((b"cHRM", SRGB_CHRM),)])
def test_gamma_that_stands_for_srgb_changes_nothing(colours, chunks):
    picture = read(make_described_png(colours, (b"gAMA", struct.pack("!I", 45455)), *chunks))
    assert np.array_equal(picture.image, colours) and picture.notes == ()


def test_codes_of_a_png(colours):
    picture = read(make_described_png(colours, (b"cICP", bytes([12, 13, 0, 1]))))
    assert differ(picture, convert_to_srgb("P3", colours)) < 0.6


def test_hdr_png_of_sixteen_bits(colours):
    codes = code_as(16, colours)
    picture = read(make_deep_png(codes, chunk(b"cICP", bytes([9, 16, 0, 1]))))
    assert differ(picture, colours) < 0.5
    alpha = np.full((64, 64, 1), 65535, np.uint16)
    alpha[:8] = 0
    picture = read(make_deep_png(np.dstack([codes, alpha]), chunk(b"cICP", bytes([9, 16, 0, 1]))))
    assert differ(picture, np.where(alpha > 0, colours, 255)) < 0.5
    assert picture.alpha is not None and picture.alpha[:8].max() == 0


def test_narrow_range_of_a_png(colours):
    narrow = np.rint(16 + colours / 255 * 219).astype(np.uint8)
    picture = read(make_described_png(narrow, (b"cICP", bytes([1, 13, 0, 0]))))
    assert differ(picture, colours) < 0.6


def test_order_of_the_descriptions_of_a_png(colours):
    gamma, srgb = (b"gAMA", struct.pack("!I", 100_000)), (b"sRGB", b"\0")
    codes = (b"cICP", bytes([12, 13, 0, 1]))
    profile = encode(colours, "PNG", icc_profile=make_profile("Adobe RGB"))
    at = profile.index(b"iCCP") - 4
    with_profile = profile[:at] + chunk(*srgb) + chunk(*gamma) + profile[at:]
    assert differ(read(with_profile), convert_to_srgb("Adobe RGB", colours)) < 0.6
    with_codes = profile[:at] + chunk(*codes) + profile[at:]
    assert differ(read(with_codes), convert_to_srgb("P3", colours)) < 0.6
    assert np.array_equal(read(make_described_png(colours, srgb, gamma)).image, colours)


@pytest.mark.parametrize(
    "chunks",
    [
        ((b"gAMA", b"\0\0"),),
        ((b"gAMA", bytes(4)),),
        ((b"cHRM", bytes(32)),),
        ((b"cHRM", b"\1"),),
        ((b"cICP", bytes([12, 13, 0])),),
        ((b"cICP", bytes([200, 200, 0, 1])),),
        ((b"iCCP", b"name\0\0rubbish"),),
    ],
)
def test_damaged_description_counts_as_none(colours, chunks):
    assert np.array_equal(read(make_described_png(colours, *chunks)).image, colours)


def test_bt2020_by_codes_is_wide(colours):
    linear = np.linalg.inv(TO_BT2020) @ np.array([1.0, 0, 0])
    picture = read(
        make_described_png(np.full((2, 2, 3), (255, 0, 0), np.uint8), (b"cICP", b"\x09\x0d\0\1"))
    )
    expected = np.rint(encode_srgb(linear))
    assert np.abs(picture.image[0, 0] - expected).max() <= 1


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
@pytest.mark.parametrize("matrix, name", [(10, "constant luminance"), (14, "ICtCp"), (15, "IPT")])
def test_matrix_that_is_not_read_is_named(portrait, format, matrix, name):
    data = encode(portrait[:64, :64], format)
    at = data.index(b"nclx") + 8
    with pytest.raises(UndecodableImage, match=f"not read: the matrix .*{name}"):
        open_image(data[:at] + struct.pack("!H", matrix) + data[at + 2 :])


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
@pytest.mark.parametrize("how", ["type", "from", "to 0", "to itself", "to nobody", "none"])
def test_alpha_with_an_odd_link_is_used_or_told(portrait, format, how):
    """Alpha of libheif's and libavif's files is item 2, the picture item 1."""
    alpha = np.full((64, 64, 1), 255, np.uint8)
    alpha[:, 32:] = 0
    image = np.dstack([portrait[:64, :64], alpha])
    data = bytearray(encode(image, format))
    at = data.index(b"auxl", data.index(b"iref"))
    assert data[at : at + 10] == b"auxl" + bytes([0, 2, 0, 1, 0, 1])
    changes = {"type": (0, b"cdsc"), "from": (4, b"\0\0"), "none": (6, b"\0\0")}
    changes |= {"to 0": (8, b"\0\0"), "to itself": (8, b"\0\2"), "to nobody": (8, b"\0\7")}
    place, content = changes[how]
    data[at + place : at + place + len(content)] = content
    try:
        picture = read(bytes(data))
    except UndecodableImage as error:
        assert format == "HEIF" and str(error)
        return
    if picture.alpha is None:
        assert any("alpha" in note for note in picture.notes)
        assert np.abs(picture.image.astype(int) - image[:, :, :3]).mean() < 5
    else:
        assert np.abs(picture.alpha.astype(int) - alpha[:, :, 0]).mean() < 5


def test_opaque_pictures_have_no_note_about_alpha(portrait):
    for format in ("AVIF", "HEIF"):
        assert read(encode(portrait[:64, :64], format)).notes == ()
