"""JPEGs are decoded by OpenCV's copy of the library, to the values of Pillow's."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from tests.helpers import encode
from tests.profiles import make_profile
from tests.stills import read, store


def read_by_pillow(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [10, 60, 95])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (200, 123)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_those_of_pillow(portrait, subsampling, quality, size, mode):
    image = Image.fromarray(portrait).resize(size).convert(mode)
    data = encode(image, "JPEG", quality=quality, subsampling=subsampling)
    expected = read_by_pillow(data).convert("RGB")
    np.testing.assert_array_equal(read(data).image, np.asarray(expected))


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_other_jpegs_are_those_of_pillow(portrait, orientation, options):
    data = store(Image.fromarray(portrait[:90, :70]), orientation, "JPEG", **options)
    np.testing.assert_array_equal(read(data).image, np.asarray(read_by_pillow(data)))


def test_values_of_red_green_and_blue_are_not_taken_for_luma_and_chroma(portrait):
    data = encode(Image.fromarray(portrait[:90, :70]), "JPEG", keep_rgb=True, quality=100)
    np.testing.assert_array_equal(read(data).image, np.asarray(read_by_pillow(data)))


@pytest.mark.parametrize("orientation", [1, 6])
def test_profile_is_applied_to_all_strips_and_the_own_values_kept(portrait, orientation):
    profile = make_profile("P3")
    image = Image.fromarray(portrait).resize((300, 600))
    data = store(image, orientation, "JPEG", icc_profile=profile)
    picture, own = read(data), read_by_pillow(data)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(own, source, ImageCms.createProfile("sRGB"))
    assert np.abs(picture.image.astype(int) - np.asarray(converted)).max() <= 1
    np.testing.assert_array_equal(picture.own, np.asarray(own))
    assert picture.icc == profile
