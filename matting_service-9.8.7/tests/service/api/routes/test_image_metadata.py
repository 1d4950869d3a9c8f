"""What a result carries beside its pixels: the colour profile, and EXIF on request only."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from tests.fakes import FakeEngine
from tests.helpers import decode, encode, post_image
from tests.profiles import make_profile

DISPLAY_P3 = make_profile("P3")
FORMATS = ["png", "webp", "jpeg", "avif"]


@pytest.fixture(scope="module")
def fake():
    from tests.conftest import open_client

    with open_client(FakeEngine()) as client:  # everything is foreground
        yield client


@pytest.fixture(scope="module")
def photo(portrait) -> bytes:
    """A photo in Display P3 with a place and a name in its EXIF."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return encode(portrait[::4, ::4], "PNG", icc_profile=DISPLAY_P3, exif=exif)


def open_answer(response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content))


def name_profile(image: Image.Image) -> str:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    return ImageCms.getProfileDescription(profile)


@pytest.mark.parametrize("format", FORMATS)
def test_profile_is_kept_with_the_values_it_belongs_to(fake, photo, portrait, format):
    options = {"output": "foreground", "format": format, "foreground": "off"}
    image = open_answer(post_image(fake, photo, **options))
    assert image.info["icc_profile"] == DISPLAY_P3
    if format == "png":
        np.testing.assert_array_equal(np.asarray(image), portrait[::4, ::4])


@pytest.mark.parametrize("output", ["cutout", "foreground"])
def test_srgb_and_strip_convert_the_values(fake, photo, portrait, output):
    kept = decode(post_image(fake, photo, output=output).content)[..., :3].astype(int)
    tagged = open_answer(post_image(fake, photo, output=output, icc="srgb"))
    plain = open_answer(post_image(fake, photo, output=output, icc="strip"))
    assert "sRGB" in name_profile(tagged) and "icc_profile" not in plain.info
    np.testing.assert_array_equal(np.asarray(tagged), np.asarray(plain))
    assert np.abs(np.asarray(plain)[..., :3] - kept).max() > 10, "P3 is wider than sRGB"


def test_composite_is_srgb_because_its_background_is(fake, photo):
    image = open_answer(post_image(fake, photo, output="composite"))
    assert "sRGB" in name_profile(image)
    bare = open_answer(post_image(fake, photo, output="composite", icc="strip"))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(bare))


def test_alpha_has_no_profile(fake, photo):
    assert "icc_profile" not in open_answer(post_image(fake, photo)).info


@pytest.mark.parametrize("output", ["alpha", "cutout", "composite"])
@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_exif_is_dropped_unless_asked_for(fake, photo, output, format):
    dropped = open_answer(post_image(fake, photo, output=output, format=format))
    assert not dropped.getexif()
    kept = open_answer(
        post_image(fake, photo, output=output, format=format, keep_metadata="true")
    ).getexif()
    assert kept[ExifTags.Base.Artist] == "somebody"
    assert kept.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("width, height", [(12_000, 600), (600, 10), (1, 1), (10, 600)])
@pytest.mark.parametrize("output", ["alpha", "cutout", "composite"])
def test_extreme_shapes_work(client, portrait, width, height, output):
    data = encode(Image.fromarray(portrait).resize((width, height)), "JPEG")
    response = post_image(client, data, output=output)
    assert response.status_code == 200
    assert decode(response.content).shape[:2] == (height, width)
