import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.matting.composite import composite_over_colour, cut_out, quantise_alpha


def make_case(seed: int, height: int = 9, width: int = 13):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return image, random.random((height, width), np.float32)


COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


@given(st.integers(0, 2**32 - 1), COLOURS)
@settings(deadline=None)
def test_composite_follows_the_compositing_equation(seed, colour):
    image, alpha = make_case(seed)
    a = alpha[..., np.newaxis].astype(np.float64)
    expected = a * image + (1 - a) * np.array(colour)
    composite = composite_over_colour(image, alpha, colour)
    assert composite.dtype == np.uint8
    np.testing.assert_allclose(composite, expected, atol=1)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_composite_is_exact_where_alpha_is_whole(value):
    image, _ = make_case(1)
    alpha = np.full(image.shape[:2], value, np.float32)
    expected = image if value else np.full_like(image, (1, 128, 254))
    np.testing.assert_array_equal(composite_over_colour(image, alpha, (1, 128, 254)), expected)


def test_composite_of_a_picture_over_its_own_colour_changes_nothing():
    """Weights that do not sum to one would darken every soft edge."""
    image = np.full((40, 40, 3), (7, 120, 250), np.uint8)
    alpha = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    np.testing.assert_array_equal(composite_over_colour(image, alpha, (7, 120, 250)), image)


@given(st.integers(0, 2**32 - 1))
def test_quantised_alpha_is_rounded_to_nearest(seed):
    _, alpha = make_case(seed)
    grey = quantise_alpha(alpha)
    assert grey.dtype == np.uint8 and grey.shape == alpha.shape
    np.testing.assert_allclose(grey, alpha.astype(np.float64) * 255, atol=0.5 + 1e-4)


def test_quantised_alpha_reaches_both_ends():
    np.testing.assert_array_equal(quantise_alpha(np.array([[0, 1]], np.float32)), [[0, 255]])


def test_every_grey_survives_quantising():
    levels = (np.arange(256, dtype=np.float32) / 255).reshape(16, 16)
    np.testing.assert_array_equal(quantise_alpha(levels).ravel(), np.arange(256))


def test_cutout_keeps_colours_straight():
    image, alpha = make_case(2)
    rgba = cut_out(image, alpha)
    np.testing.assert_array_equal(rgba[..., :3], image)
    np.testing.assert_array_equal(rgba[..., 3], quantise_alpha(alpha))
