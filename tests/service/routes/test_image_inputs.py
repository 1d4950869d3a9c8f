"""What may come in: formats, orientations, shapes."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image

SMALL = {"ref_size": 128}  # quick where the matte is not the subject
UPRIGHT = Image.Transpose
STORED_AS = {  # the turn that undoes what the EXIF orientation asks for
    1: None,
    2: UPRIGHT.FLIP_LEFT_RIGHT,
    3: UPRIGHT.ROTATE_180,
    4: UPRIGHT.FLIP_TOP_BOTTOM,
    5: UPRIGHT.TRANSPOSE,
    6: UPRIGHT.ROTATE_90,
    7: UPRIGHT.TRANSVERSE,
    8: UPRIGHT.ROTATE_270,
}


def store(upright: np.ndarray, orientation: int, format: str, **options) -> bytes:
    image = Image.fromarray(upright)
    if (turn := STORED_AS[orientation]) is not None:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, format, exif=exif, **options)


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


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_read_in_every_format_that_has_one(client, upright, upright_alpha, format):
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 98}}.get(format, {})
    response = post_image(client, store(upright, 6, format, **options), ref_size=256)
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
    assert alpha.shape == (400, 320) and response.headers["x-width"] == "320"
    assert np.abs(alpha - upright_alpha).mean() < 1


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    a = alpha[..., np.newaxis] / 255
    return a * rgb + (1 - a) * 255


def make_inputs(portrait: np.ndarray) -> dict[str, tuple[bytes, np.ndarray, float]]:
    """Return name: (file, the RGB that a viewer would show, mean error allowed)."""
    rgb = Image.fromarray(portrait[:256, 100:356])
    grey, colours = rgb.convert("L"), np.asarray(rgb)
    greys = np.repeat(np.asarray(grey)[..., np.newaxis], 3, axis=2)
    deep = np.asarray(grey).astype(np.uint16) * 257
    palette, bits = rgb.quantize(64), grey.convert("1")
    alpha = np.tile(np.linspace(0, 255, 256).astype(np.uint8), (256, 1))
    rgba = Image.merge("RGBA", [*rgb.split(), Image.fromarray(alpha)])
    la = Image.merge("LA", [grey, Image.fromarray(alpha)])
    clear = palette.copy()
    clear.info["transparency"] = 5
    holes = np.where(np.asarray(palette) == 5, 0, 255).astype(np.uint8)
    cmyk = rgb.convert("CMYK")
    frames = {"save_all": True, "append_images": [Image.new("P", rgb.size)]}
    shown = np.asarray(palette.convert("RGB"))
    return {
        "png": (encode(rgb, "PNG"), colours, 0),
        "png-grey": (encode(grey, "PNG"), greys, 0),
        "png-16-bit-grey": (encode(deep, "PNG"), greys, 0.5),
        "png-palette": (encode(palette, "PNG"), shown, 0),
        "png-palette-clear": (encode(clear, "PNG"), over_white(shown, holes), 0.5),
        "png-1-bit": (encode(bits, "PNG"), np.asarray(bits.convert("RGB")), 0),
        "png-rgba": (encode(rgba, "PNG"), over_white(colours, alpha), 1),
        "png-grey-alpha": (encode(la, "PNG"), over_white(greys, alpha), 1),
        "jpeg": (encode(rgb, "JPEG", quality=98, subsampling=0), colours, 2),
        "jpeg-progressive": (encode(rgb, "JPEG", quality=98, progressive=True), colours, 3),
        "jpeg-grey": (encode(grey, "JPEG", quality=98), greys, 2),
        "jpeg-cmyk": (encode(cmyk, "JPEG", quality=98), np.asarray(cmyk.convert("RGB")), 3),
        "webp": (encode(rgb, "WEBP", quality=95), colours, 4),
        "webp-lossless-alpha": (encode(rgba, "WEBP", lossless=True, exact=True), None, 0),
        "avif": (encode(rgb, "AVIF", quality=95), colours, 4),
        "tiff": (encode(rgb, "TIFF"), colours, 0),
        "tiff-lzw": (encode(rgb, "TIFF", compression="tiff_lzw"), colours, 0),
        "tiff-16-bit-grey": (encode(deep, "TIFF"), greys, 0.5),
        "bmp": (encode(rgb, "BMP"), colours, 0),
        "gif": (encode(palette, "GIF"), shown, 0),
        "gif-first-frame": (encode(palette, "GIF", **frames), shown, 0),
    }


INPUT_NAMES = list(make_inputs(np.zeros((512, 512, 3), np.uint8)))


@pytest.fixture(scope="module")
def inputs(portrait):
    return make_inputs(portrait)


@pytest.mark.parametrize("name", INPUT_NAMES)
def test_input_is_seen_as_a_viewer_shows_it(client, inputs, name):
    data, expected, error = inputs[name]
    if expected is None:
        expected, error = inputs["png-rgba"][1], 1
    response = post_image(client, data, output="cutout", **SMALL)
    assert response.status_code == 200, response.text
    rgb = decode(response.content)[..., :3]
    assert rgb.shape == (256, 256, 3)
    assert np.abs(rgb - np.asarray(expected, np.float64)).mean() <= error


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
