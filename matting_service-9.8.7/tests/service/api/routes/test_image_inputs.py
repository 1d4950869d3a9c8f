"""What may come in: formats, orientations, shapes."""

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from tests.conftest import open_client
from tests.fakes import FakeEngine, opaque
from tests.helpers import assert_problem, decode, encode, post_image
from tests.profiles import convert_to_srgb, make_profile
from tests.stills import LOSSLESS, store

SMALL = {"ref_size": 128}  # quick where the matte is not the subject


@pytest.fixture(scope="module")
def upright(portrait) -> np.ndarray:
    return portrait[:400, 60:380]


@pytest.fixture(scope="module")
def upright_alpha(client, upright) -> np.ndarray:
    return decode(post_image(client, encode(upright, "PNG"), ref_size=256).content).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_upright_matte(client, upright, upright_alpha, orientation):
    data = store(upright, orientation, "JPEG", quality=98, subsampling=0)
    response = post_image(client, data, ref_size=256)
    assert (response.headers["x-width"], response.headers["x-height"]) == ("320", "400")
    alpha = decode(response.content).astype(int)
    assert alpha.shape == (400, 320)
    assert np.abs(alpha - upright_alpha).mean() < 1


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_orientation_is_read_in_every_format_that_has_one(client, upright, upright_alpha, format):
    response = post_image(client, store(upright, 6, format, **LOSSLESS[format]), ref_size=256)
    assert (response.headers["x-width"], response.headers["x-height"]) == ("320", "400")
    alpha = decode(response.content).astype(int)
    assert alpha.shape == (400, 320)
    assert np.abs(alpha - upright_alpha).mean() < 2  # AVIF is lossy


def test_orientation_behind_the_pixels_of_a_png_is_read(client, upright, upright_alpha):
    data = store(upright, 6, "PNG")
    at = data.index(b"eXIf") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    moved = data[:at] + data[at + length : -12] + data[at : at + length] + data[-12:]
    response = post_image(client, moved, ref_size=256)
    alpha = decode(response.content).astype(int)
    assert alpha.shape == (400, 320)
    assert (response.headers["x-width"], response.headers["x-height"]) == ("320", "400")
    assert np.abs(alpha - upright_alpha).mean() < 1


@dataclass(frozen=True)
class Input:
    """A file, the straight colours and alpha it holds, and the mean error allowed."""

    data: bytes
    colours: np.ndarray
    alpha: np.ndarray
    error: float = 0


def make_inputs(portrait: np.ndarray) -> dict[str, Input]:
    """Return pictures of 64 x 64 in every format and in modes that differ."""
    rgb = Image.fromarray(portrait[:256, 100:356]).resize((64, 64))
    grey, colours = rgb.convert("L"), np.asarray(rgb)
    greys = np.asarray(grey.convert("RGB"))
    deep = np.asarray(grey).astype(np.uint16) * 257
    palette, bits = rgb.quantize(64), grey.convert("1")
    shown = np.asarray(palette.convert("RGB"))
    opaque = np.full((64, 64), 255, np.uint8)
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    rgba = Image.merge("RGBA", [*rgb.split(), Image.fromarray(ramp)])
    la = Image.merge("LA", [grey, Image.fromarray(ramp)])
    holes = np.where(np.asarray(palette) == 5, 0, 255).astype(np.uint8)
    cmyk = rgb.convert("CMYK")
    frames = {"save_all": True, "append_images": [Image.new("P", rgb.size)]}
    wide = make_profile("P3")
    as_srgb = convert_to_srgb("P3", colours)
    inks = np.asarray(cmyk.convert("RGB"))
    best = LOSSLESS["JPEG"]
    return {
        "png": Input(encode(rgb, "PNG"), colours, opaque),
        "png-grey": Input(encode(grey, "PNG"), greys, opaque),
        "png-16-bit-grey": Input(encode(deep, "PNG"), greys, opaque),
        "png-palette": Input(encode(palette, "PNG"), shown, opaque),
        "png-palette-clear": Input(encode(palette, "PNG", transparency=5), shown, holes),
        "png-1-bit": Input(encode(bits, "PNG"), np.asarray(bits.convert("RGB")), opaque),
        "png-rgba": Input(encode(rgba, "PNG"), colours, ramp),
        "png-grey-alpha": Input(encode(la, "PNG"), greys, ramp),
        "png-p3": Input(encode(rgb, "PNG", icc_profile=wide), as_srgb, opaque, 1),
        "jpeg": Input(encode(rgb, "JPEG", **best), colours, opaque, 1.5),
        "jpeg-progressive": Input(
            encode(rgb, "JPEG", progressive=True, **best), colours, opaque, 2
        ),
        "jpeg-grey": Input(encode(grey, "JPEG", quality=98), greys, opaque, 2),
        "jpeg-cmyk": Input(encode(cmyk, "JPEG", **best), inks, opaque, 3),
        "jpeg-p3": Input(encode(rgb, "JPEG", icc_profile=wide, **best), as_srgb, opaque, 2),
        "webp": Input(encode(rgb, "WEBP", quality=95), colours, opaque, 5),
        "webp-lossless-alpha": Input(encode(rgba, "WEBP", **LOSSLESS["WEBP"]), colours, ramp),
        "avif": Input(encode(rgb, "AVIF", **LOSSLESS["AVIF"]), colours, opaque, 2),
        "avif-alpha": Input(encode(rgba, "AVIF", **LOSSLESS["AVIF"]), colours, ramp, 2),
        "heif": Input(encode(rgb, "HEIF", quality=95), colours, opaque, 5),
        "heif-alpha": Input(encode(rgba, "HEIF", **LOSSLESS["HEIF"]), colours, ramp),
        "heif-p3": Input(
            encode(rgb, "HEIF", icc_profile=wide, **LOSSLESS["HEIF"]), as_srgb, opaque, 1
        ),
        "tiff": Input(encode(rgb, "TIFF"), colours, opaque),
        "tiff-lzw": Input(encode(rgb, "TIFF", compression="tiff_lzw"), colours, opaque),
        "tiff-16-bit-grey": Input(encode(deep, "TIFF"), greys, opaque),
        "tiff-cmyk": Input(encode(cmyk, "TIFF"), inks, opaque, 1),
        "bmp": Input(encode(rgb, "BMP"), colours, opaque),
        "gif": Input(encode(palette, "GIF"), shown, opaque),
        "gif-first-frame": Input(encode(palette, "GIF", **frames), shown, opaque),
    }


INPUT_NAMES = list(make_inputs(np.zeros((512, 512, 3), np.uint8)))


@pytest.fixture(scope="module")
def inputs(portrait) -> dict[str, Input]:
    return make_inputs(portrait)


@pytest.fixture(scope="module")
def seen() -> list[np.ndarray]:
    """Filled with what the network of `seeing_client` is given, uint8 RGB."""
    return []


@pytest.fixture(scope="module")
def seeing_client(seen):
    """A client whose network calls all opaque, at 64 x 64 without a resize."""

    def answer(batch: np.ndarray) -> np.ndarray:
        seen.append(np.moveaxis(batch[0], 0, -1) * 127.5 + 127.5)
        return opaque(batch)

    with open_client(FakeEngine(answer)) as opened:
        yield opened


def over_white(given: Input) -> np.ndarray:
    weight = given.alpha[..., np.newaxis] / 255
    return weight * given.colours + (1 - weight) * 255


@pytest.mark.parametrize("name", INPUT_NAMES)
def test_network_and_composite_show_what_a_viewer_shows(seeing_client, seen, inputs, name):
    given = inputs[name]
    seen.clear()
    response = post_image(seeing_client, given.data, output="composite", foreground="off")
    assert response.status_code == 200, response.text
    expected = over_white(given)
    for picture in (seen[0], decode(response.content)):
        assert picture.shape == (64, 64, 3)
        assert np.abs(picture - expected).mean() <= given.error + 0.5


@pytest.mark.parametrize("name", INPUT_NAMES)
def test_cutout_has_straight_colours_and_the_alpha_of_the_file(seeing_client, inputs, name):
    given = inputs[name]
    response = post_image(seeing_client, given.data, output="cutout", foreground="off", icc="srgb")
    assert response.status_code == 200, response.text
    cutout = decode(response.content)
    assert np.abs(cutout[..., 3].astype(int) - given.alpha).max() <= 1
    visible = given.alpha > 0
    assert np.abs(cutout[..., :3] - np.asarray(given.colours, float))[visible].mean() <= given.error


def test_content_type_of_the_request_does_not_decide_the_format(client, portrait):
    response = post_image(client, encode(portrait, "PNG"), "image/jpeg", **SMALL)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "width, height, options",
    [
        (1, 1, {"output": "composite"}),
        (600, 10, {"output": "alpha"}),
        (10, 600, {"output": "cutout", "ref_size": 64}),
        (3000, 40, {"output": "composite", "ref_size": 64}),
        (1, 900, {"output": "cutout", "ref_size": 64}),
    ],
)
def test_extreme_shapes_keep_their_size(client, portrait, width, height, options):
    image = Image.fromarray(portrait).resize((width, height))
    response = post_image(client, encode(image, "PNG"), **options)
    assert response.status_code == 200
    assert decode(response.content).shape[:2] == (height, width)


@pytest.mark.parametrize("format, side", [("webp", 16_383), ("jpeg", 16_384), ("png", 16_384)])
def test_longest_side_a_format_can_hold_is_made(make_client, format, side):
    data = encode(Image.new("L", (side, 8)), "PNG")
    response = post_image(make_client(FakeEngine()), data, format=format)
    assert response.status_code == 200
    with Image.open(io.BytesIO(response.content)) as image:
        assert image.size == (side, 8)


def test_side_over_that_of_the_format_is_an_impossible_output(client):
    data = encode(Image.new("L", (16_384, 8)), "PNG")
    problem = assert_problem(post_image(client, data, format="webp"), 422, "impossible-output")
    assert problem["limit"] == 16_383 and problem["actual"] == 16_384
