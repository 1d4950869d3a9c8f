"""What each option of `POST /v1/image` does to the answer, with the real network."""

import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image


@pytest.fixture(scope="module")
def photo(portrait) -> bytes:
    return encode(portrait, "PNG")


@pytest.fixture(scope="module")
def alpha(client, photo) -> np.ndarray:
    """The matte without further options, (512, 512) uint8."""
    return decode(post_image(client, photo).content)


def ask(client, photo: bytes, **options) -> np.ndarray:
    response = post_image(client, photo, **options)
    assert response.status_code == 200, response.text
    return decode(response.content)


def test_threshold_makes_alpha_all_or_nothing(client, photo, alpha):
    hard = ask(client, photo, threshold=0.3)
    assert set(np.unique(hard)) == {0, 255}
    sure = np.abs(alpha / 255 - 0.3) > 0.01
    np.testing.assert_array_equal((hard == 255)[sure], (alpha / 255 > 0.3)[sure])


def test_erode_shrinks_and_dilate_grows(client, photo, alpha):
    assert ask(client, photo, erode=5).sum() < alpha.sum() < ask(client, photo, dilate=5).sum()


def test_feather_softens_the_edge(client, photo):
    def steepest(picture):
        return np.abs(np.diff(picture.astype(int), axis=1)).max()

    assert steepest(ask(client, photo, threshold=0.5, feather=6)) < 40
    assert steepest(ask(client, photo, threshold=0.5)) == 255


def test_keep_largest_drops_the_smaller_piece(make_client):
    matte = np.zeros((64, 64), np.float32)
    matte[8:40, 8:30] = 1
    matte[50:60, 50:60] = 1
    client = make_client(FakeEngine(lambda batch: np.stack([matte] * len(batch))))
    data = encode(Image.new("RGB", (64, 64), "grey"), "PNG")
    assert ask(client, data).astype(bool).sum() == 32 * 22 + 100
    kept = ask(client, data, keep_largest="true")
    assert kept[:48, :40].astype(bool).sum() == 32 * 22 == kept.astype(bool).sum()


def test_refine_off_is_the_plain_enlargement(make_client, portrait):
    matte = np.zeros((64, 64), np.float32)
    matte[:, 32:] = 1
    client = make_client(FakeEngine(lambda batch: np.stack([matte] * len(batch))))
    data = encode(portrait, "PNG")
    plain = ask(client, data, refine="off")
    wanted = cv2.resize(matte, (512, 512), interpolation=cv2.INTER_LINEAR) * 255
    np.testing.assert_allclose(plain, wanted, atol=0.51)
    refined = ask(client, data)
    assert np.abs(refined.astype(int) - plain).max() > 30 and (refined[:, :200] == 0).all()


def test_bundle_is_a_zip_of_colour_and_alpha(client, photo, alpha):
    response = post_image(client, photo, output="bundle", quality=95)
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        colour, matte = (decode(archive.read(name)) for name in archive.namelist())
    np.testing.assert_array_equal(matte, alpha)
    foreground = ask(client, photo, output="foreground")
    assert np.abs(colour.astype(int) - foreground).mean() < 3


def test_crop_is_the_box_that_the_whole_picture_reports(client, photo, alpha, portrait):
    shift = np.zeros((700, 900, 3), np.uint8) + np.uint8(235)
    shift[150:662, 200:712] = portrait
    data = encode(shift, "PNG")
    whole = post_image(client, data, output="composite")
    names = ("left", "top", "width", "height")
    left, top, width, height = (int(whole.headers[f"x-foreground-{name}"]) for name in names)
    assert left > 0 and top > 0 and width < 900 and height < 700
    cropped = post_image(client, data, output="composite", crop="true")
    pixels = decode(cropped.content)
    assert (cropped.headers["x-width"], cropped.headers["x-height"]) == (str(width), str(height))
    # Colours next to the person are estimated with what lies around them, in both cases the same.
    wanted = decode(whole.content)[top : top + height, left : left + width]
    assert np.abs(pixels.astype(int) - wanted).mean() < 1
    assert cropped.headers["x-foreground-left"] == cropped.headers["x-foreground-top"] == "0"


@pytest.mark.parametrize(
    "margin, room", [("10", (10, 10, 10, 10)), ("10px 20px", (10, 20, 10, 20)), ("25%", None)]
)
def test_crop_margin_leaves_room(make_client, margin, room):
    matte = np.zeros((128, 128), np.float32)
    matte[40:80, 50:90] = 1
    client = make_client(FakeEngine(lambda batch: np.stack([matte] * len(batch))))
    data = encode(Image.new("RGB", (128, 128), "grey"), "PNG")
    options = {"crop": "true", "ref_size": 128}
    response = post_image(client, data, crop_margin=margin, **options)
    top, right, bottom, left = room or (10, 10, 10, 10)
    assert decode(response.content).shape == (40 + top + bottom, 40 + left + right)
    assert response.headers["x-foreground-left"] == str(left)
    assert response.headers["x-foreground-top"] == str(top)


@pytest.mark.parametrize(
    "size, shape",
    [
        ("full", (512, 512)),
        ("preview", (500, 500)),
        ("100x200", (100, 100)),
        ("0.01MP", (100, 100)),
    ],
)
@pytest.mark.parametrize("output", ["alpha", "cutout"])
def test_size_shrinks_the_result(client, photo, alpha, size, shape, output):
    response = post_image(client, photo, size=size, output=output)
    pixels = decode(response.content)
    assert pixels.shape[:2] == shape
    assert response.headers["x-width"] == str(shape[1])
    small = cv2.resize(alpha, shape[::-1], interpolation=cv2.INTER_AREA)
    found = pixels if output == "alpha" else pixels[..., 3]
    assert np.abs(found.astype(int) - small).mean() < 2


def test_background_file_is_scaled_to_cover(client, photo, alpha):
    background = np.zeros((100, 400, 3), np.uint8)
    background[:, :200] = (255, 0, 0)
    background[:, 200:] = (0, 0, 255)
    files = {"file": photo, "background_file": encode(background, "PNG")}
    response = client.post("/v1/image", files=files, data={"output": "composite"})
    pixels = decode(response.content)
    assert pixels.shape == (512, 512, 3) and alpha[5, [5, -5]].max() < 8
    np.testing.assert_allclose(pixels[5, 5], [255, 0, 0], atol=8)
    np.testing.assert_allclose(pixels[5, -5], [0, 0, 255], atol=8)


def test_blurred_background_is_soft_and_the_person_sharp(client, photo, alpha, portrait):
    pixels = ask(client, photo, output="composite", background="blur", blur_radius=12).astype(int)
    solid, clear = alpha == 255, alpha == 0

    def roughness(picture, where):
        return np.abs(np.diff(picture.astype(int), axis=1)).mean(axis=2)[where[:, 1:]].mean()

    assert np.abs(pixels - portrait)[solid].max() <= 2
    assert roughness(pixels, clear) < roughness(portrait, clear) / 2


@pytest.mark.parametrize(
    "part, options",
    [
        ("background_file", {}),
        ("background_file", {"output": "cutout"}),
        ("background_file", {"output": "composite", "background": "red"}),
        ("trimap_file", {}),
    ],
)
def test_file_without_effect_is_refused(client, photo, part, options):
    response = client.post("/v1/image", files={"file": photo, part: photo}, data=options)
    assert_problem(response, 422, "invalid-option")


def test_broken_background_names_the_part(client, photo):
    files = {"file": photo, "background_file": photo[:300]}
    response = client.post("/v1/image", files=files, data={"output": "composite"})
    problem = assert_problem(response, 422, "undecodable-media")
    assert problem["detail"].startswith("background_file")


@pytest.fixture(scope="module")
def transparent(portrait) -> bytes:
    """A file with (200, 100, 50) at alpha 128 in a region, opaque elsewhere, clear at the left."""
    rgba = np.dstack([portrait, np.full((512, 512), 255, np.uint8)])
    rgba[:, :64] = (9, 9, 9, 0)
    rgba[300:400, 200:300] = (200, 100, 50, 128)
    return encode(rgba, "PNG")


def test_existing_alpha_multiplies_the_matte_or_is_it_or_does_nothing(client, transparent):
    ignored = ask(client, transparent, existing_alpha="ignore").astype(float)
    multiplied = ask(client, transparent).astype(float)
    returned = ask(client, transparent, existing_alpha="return")
    assert ignored[350, 250] > 200, "the network sees a person there"
    np.testing.assert_allclose(multiplied, ignored * returned / 255, atol=1.01)
    assert (returned[:, :64] == 0).all() and returned[350, 250] == 128


def test_returned_alpha_needs_no_network_and_says_nothing_of_one(make_client, transparent):
    engine = FakeEngine()
    response = post_image(make_client(engine), transparent, existing_alpha="return")
    assert response.status_code == 200 and engine.batches == []
    for name in ("x-model", "x-provider", "x-person", "x-matte-confidence"):
        assert name not in response.headers


def test_half_transparent_colour_pasted_on_white_is_what_a_viewer_shows(client, transparent):
    """The known case: (200, 100, 50) at alpha 128 is [227, 177, 152] over white."""
    for options in ({"existing_alpha": "return"}, {}):
        rgba = ask(client, transparent, output="cutout", **options).astype(float)
        share = rgba[340:360, 240:260, 3:] / 255
        pasted = rgba[340:360, 240:260, :3] * share + 255 * (1 - share)
        np.testing.assert_allclose(pasted.mean(axis=(0, 1)), [227, 177, 152], atol=2.5)
    white = ask(client, transparent, output="composite", existing_alpha="return")
    np.testing.assert_allclose(white[350, 250], [227, 177, 152], atol=1)


def test_shrunk_transparent_file_has_no_rim_of_what_was_invisible(client, portrait):
    rgba = np.zeros((512, 512, 4), np.uint8)
    rgba[100:401, 101:400] = (200, 0, 0, 255)
    options = {"existing_alpha": "return", "output": "cutout", "size": "128x128"}
    small = ask(client, encode(rgba, "PNG"), **options)
    edge = (small[..., 3] > 0) & (small[..., 3] < 255)
    assert edge.any()
    np.testing.assert_allclose(small[edge][:, :3], np.tile([200, 0, 0], (edge.sum(), 1)), atol=3)


def test_model_may_be_named_and_another_is_refused(client, engine, photo):
    assert post_image(client, photo, model=engine.info.name).status_code == 200
    problem = assert_problem(post_image(client, photo, model="u2net"), 422, "invalid-option")
    assert engine.info.name in problem["hint"]


def test_green_wall_leaves_no_rim(client, portrait, alpha):
    """A person before a green wall, pasted on black, with and without their own colour."""
    share = cv2.GaussianBlur(np.float32(alpha) / 255, (0, 0), 1)[..., np.newaxis]
    person = decode(post_image(client, encode(portrait, "PNG"), output="foreground").content)
    green = np.rint(person * share + np.array([0, 200, 0]) * (1 - share)).astype(np.uint8)
    spill = {}
    for choice in ("auto", "off"):
        cutout = ask(client, encode(green, "PNG"), output="cutout", foreground=choice)
        over_black = cutout[..., :3] * (cutout[..., 3:] / 255)
        band = (cutout[..., 3] > 12) & (cutout[..., 3] < 242)
        red, grn, blue = (over_black[band][:, i] for i in range(3))
        spill[choice] = np.maximum(0, grn - np.maximum(red, blue)).mean()
    assert spill["off"] > 5 and spill["auto"] < spill["off"] / 4, spill
