"""remove.bg's parameters are ours under other names: the answers must be the same bytes."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from service.api.compat.removebg import RemoveBgOptions, map_removebg_options, parse_bg_color
from tests.compat_helpers import REMOVEBG, ask, make_picture
from tests.helpers import decode, encode, post_image

CUTOUT = {"output": "cutout", "size": "preview"}
OVER = {"output": "composite", "format": "jpeg", "size": "preview"}


@pytest.fixture(scope="module")
def image() -> bytes:
    """A picture of 6 MP: larger than every named size but the last."""
    return encode(make_picture(3000, 2000), "PNG", compress_level=1)


# The real network.


def test_answer_is_the_cutout_of_the_real_network(client, portrait, portrait_jpeg):
    response = ask(client, portrait_jpeg, size="full")
    assert response.status_code == 200 and response.headers["content-type"] == "image/png"
    rgba = decode(response.content)
    assert rgba.shape == (512, 512, 4)
    assert rgba[80:170, 180:260, 3].mean() > 0.9 * 255, "the face"
    assert rgba[0:60, 80:150, 3].mean() < 0.1 * 255, "the wall"
    face = portrait[100:150, 200:240].astype(int)
    assert np.abs(rgba[100:150, 200:240, :3] - face).mean() < 4
    assert response.content == post_image(client, portrait_jpeg, output="cutout").content


def test_default_size_is_a_quarter_of_a_megapixel(client, portrait_jpeg):
    response = ask(client, portrait_jpeg)
    assert decode(response.content).shape == (500, 500, 4)
    assert (response.headers["x-width"], response.headers["x-height"]) == ("500", "500")
    assert response.content == post_image(client, portrait_jpeg, **CUTOUT).content


# Each parameter, and ours.


@pytest.mark.parametrize(
    "size, ours, pixels",
    [
        ("preview", "preview", (612, 408)),
        ("small", "preview", (612, 408)),
        ("regular", "preview", (612, 408)),
        ("medium", "1.5MP", (1500, 1000)),
        ("hd", "4MP", (2449, 1632)),
        ("full", "full", (3000, 2000)),
        ("4k", "full", (3000, 2000)),
        ("auto", "full", (3000, 2000)),
        ("50MP", "full", (3000, 2000)),
    ],
)
def test_size(fake, image, size, ours, pixels):
    response = ask(fake, image, size=size, channels="alpha")
    width, height = int(response.headers["x-width"]), int(response.headers["x-height"])
    assert abs(width - pixels[0]) <= 1 and abs(height - pixels[1]) <= 1
    assert response.content == post_image(fake, image, output="alpha", size=ours).content


def test_names_of_the_largest_sizes_are_bounds_too():
    for theirs, ours in {"full": "25MP", "4k": "25MP", "auto": "25MP", "50MP": "50MP"}.items():
        options, _ = map_removebg_options(RemoveBgOptions(size=theirs), False)
        assert options.size == ours


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ({"format": "auto"}, CUTOUT),
        ({"format": "png"}, CUTOUT | {"format": "png"}),
        ({"format": "webp"}, CUTOUT | {"format": "webp"}),
        ({"format": "jpg"}, OVER),
        ({"format": "zip"}, {"output": "bundle", "size": "preview"}),
        ({"channels": "rgba"}, CUTOUT),
        ({"channels": "alpha"}, {"output": "alpha", "size": "preview"}),
        ({"channels": "alpha", "format": "jpg"}, {"output": "alpha", "format": "jpeg"}),
        ({"bg_color": "81d4fa"}, OVER | {"background": "#81d4fa"}),
        ({"bg_color": "#81d4fa"}, OVER | {"background": "#81d4fa"}),
        ({"bg_color": "8DF"}, OVER | {"background": "#88ddff"}),
        ({"bg_color": "#8dff"}, OVER | {"background": "#88ddff"}),
        ({"bg_color": "81d4faFF"}, OVER | {"background": "#81d4fa"}),
        ({"bg_color": "81d4fa00"}, CUTOUT),
        ({"bg_color": "green"}, OVER | {"background": "green"}),
        ({"bg_color": "Green", "format": "png"}, OVER | {"background": "green", "format": "png"}),
        ({"bg_color": "red", "format": "webp"}, OVER | {"background": "red", "format": "webp"}),
        ({"crop": "true"}, CUTOUT | {"crop": "true"}),
        ({"crop": "true", "crop_margin": "30px"}, CUTOUT | {"crop": True, "crop_margin": "30px"}),
        (
            {"crop": "true", "crop_margin": "5% 10%"},
            CUTOUT | {"crop": True, "crop_margin": "5% 10%"},
        ),
        ({"scale": "60%"}, CUTOUT | {"scale": "60%", "position": "center"}),
        (
            {"scale": "60%", "position": "original", "bg_color": "red", "format": "png"},
            {"output": "composite", "background": "red", "scale": "60%", "position": "original"},
        ),
        ({"position": "10% 20%"}, CUTOUT | {"position": "10% 20%"}),
        ({"add_shadow": "true"}, CUTOUT | {"shadow": "drop"}),
        ({"shadow_type": "drop", "scale": "50%"}, CUTOUT | {"shadow": "drop", "scale": "50%"}),
    ],
)
def test_parameters_do_what_ours_do(fake, small, theirs, ours):
    response = ask(fake, small, **theirs)
    expected = post_image(fake, small, **ours)
    assert response.status_code == expected.status_code == 200, response.text
    assert response.headers["content-type"] == expected.headers["content-type"]
    if ours["output"] == "bundle":  # its time of writing may differ
        assert read_zip(response.content) == read_zip(expected.content)
    else:
        assert response.content == expected.content
    changes = ours != CUTOUT and ours != CUTOUT | {"format": "png"}
    assert (response.content != ask(fake, small).content) == changes


@pytest.mark.parametrize(
    "name, value",
    [
        ("type", "auto"),
        ("type", "person"),
        ("type_level", "1"),
        ("type_level", "2"),
        ("type_level", "latest"),
        ("crop", "false"),
        ("crop_margin", "0"),
        ("roi", "0% 0% 100% 100%"),
        ("roi", "0px 0px 100% 100%"),
        ("scale", "original"),
        ("position", "original"),
        ("add_shadow", "false"),
        ("shadow_type", "none"),
        ("shadow_method", "latest"),
        ("semitransparency", "true"),
        ("bg_color", ""),
        ("bg_image_url", ""),
        ("image_url", ""),
        ("image_file_b64", ""),
        ("scale", ""),
        ("shadow_opacity", ""),
    ],
)
def test_default_or_empty_value_changes_nothing(fake, small, name, value):
    response = ask(fake, small, **{name: value})
    assert response.status_code == 200, response.text
    assert response.content == ask(fake, small).content


def test_picture_behind_the_person_fills_the_frame(fake, small):
    behind = np.zeros((50, 90, 3), np.uint8)
    behind[:, :45], behind[:, 45:] = (250, 10, 10), (10, 10, 250)
    files = {"image_file": ("a.png", small), "bg_image_file": ("b.png", encode(behind, "PNG"))}
    response = fake.post(REMOVEBG, files=files, data={"format": "png"})
    assert response.status_code == 200, response.text
    picture = decode(response.content).astype(int)
    assert picture.shape == (200, 300, 3)
    np.testing.assert_allclose(picture[:30, :60], np.full((30, 60, 3), (250, 10, 10)), atol=2)
    np.testing.assert_allclose(picture[:30, -60:], np.full((30, 60, 3), (10, 10, 250)), atol=2)
    files = {"file": files["image_file"], "background_file": files["bg_image_file"]}
    ours = fake.post("/v1/image", files=files, data={"output": "composite"})
    assert response.content == ours.content


@pytest.mark.parametrize(
    "text, colour",
    [
        ("81d4fa", (0x81, 0xD4, 0xFA, 255)),
        ("#81D4FA", (0x81, 0xD4, 0xFA, 255)),
        ("fff", (255, 255, 255, 255)),
        ("#1238", (0x11, 0x22, 0x33, 0x88)),
        ("81d4fa77", (0x81, 0xD4, 0xFA, 0x77)),
        ("RebeccaPurple", (0x66, 0x33, 0x99, 255)),
        ("bad", (0xBB, 0xAA, 0xDD, 255)),
    ],
)
def test_colours_are_read_as_theirs(text, colour):
    assert parse_bg_color(text) == colour


# The answer.


def read_zip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_zip_has_the_colour_and_the_matte(fake, small):
    response = ask(fake, small, format="zip")
    assert response.headers["content-type"] == "application/zip"
    files = read_zip(response.content)
    assert list(files) == ["color.jpg", "alpha.png"]
    with Image.open(io.BytesIO(files["color.jpg"])) as colour:
        assert (colour.format, colour.mode, colour.size) == ("JPEG", "RGB", (300, 200))
    with Image.open(io.BytesIO(files["alpha.png"])) as alpha:
        assert (alpha.format, alpha.mode, alpha.size) == ("PNG", "L", (300, 200))
        matte = np.asarray(alpha)
    np.testing.assert_array_equal(matte, decode(ask(fake, small).content)[..., 3])


@pytest.mark.parametrize("options", [{}, {"crop": "true", "crop_margin": "10px"}])
def test_headers_are_the_facts_of_the_picture(fake, small, options):
    response = ask(fake, small, **options)
    alpha = decode(response.content)[..., 3]
    rows, columns = np.nonzero(alpha > 127)
    found = {
        "x-width": alpha.shape[1],
        "x-height": alpha.shape[0],
        "x-foreground-top": rows.min(),
        "x-foreground-left": columns.min(),
        "x-foreground-height": np.ptp(rows) + 1,
        "x-foreground-width": np.ptp(columns) + 1,
    }
    assert {name: int(response.headers[name]) for name in found} == found
    assert 20 < found["x-foreground-width"] < alpha.shape[1]
    assert response.headers["x-type"] == "person"
    assert response.headers["x-credits-charged"] == "0"
    assert response.headers["x-model"] == "fake"


def test_type_level_none_sends_no_type(fake, small):
    assert "x-type" not in ask(fake, small, type_level="none").headers


@pytest.mark.parametrize("options", [{}, {"format": "zip"}, {"bg_color": "red"}])
def test_json_holds_the_same_bytes_and_facts(fake, small, options):
    response = ask(fake, small, headers={"Accept": "application/json"}, **options)
    assert response.headers["content-type"] == "application/json"
    plain = ask(fake, small, **options)
    data = response.json()["data"]
    assert len(json.dumps(response.json())) == len(response.content) and len(data) == 5
    content = base64.b64decode(data["result_b64"])
    if options.get("format") == "zip":
        assert read_zip(content) == read_zip(plain.content)
    else:
        assert content == plain.content
    for name in ("top", "left", "width", "height"):
        assert data[f"foreground_{name}"] == int(plain.headers[f"x-foreground-{name}"])
    assert response.headers["x-width"] == plain.headers["x-width"]


@pytest.mark.parametrize(
    "accept, kind",
    [
        (None, "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("application/json, text/plain, */*", "image/png"),
        ("application/json", "application/json"),
        ("application/json, image/*;q=0.5", "application/json"),
        ("text/html", "image/png"),
    ],
)
def test_accept_chooses_json_only_where_the_client_prefers_it(fake, small, accept, kind):
    headers = {} if accept is None else {"Accept": accept}
    response = ask(fake, small, headers=headers)
    assert response.status_code == 200 and response.headers["content-type"] == kind


def test_openapi_describes_the_route(fake):
    operation = fake.get("/openapi.json").json()["paths"][REMOVEBG]["post"]
    content = operation["requestBody"]["content"]
    forms = {kind: set(body["schema"]["properties"]) for kind, body in content.items()}
    parts = forms["multipart/form-data"]
    assert {"image_file", "image_file_b64", "bg_image_file", "size", "roi"} <= parts
    written = forms["application/json"]
    assert written == forms["application/x-www-form-urlencoded"]
    assert written == parts - {"image_file", "bg_image_file"}
    assert written == {"image_file_b64", *RemoveBgOptions.model_fields}
    assert "application/zip" in operation["responses"]["200"]["content"]
