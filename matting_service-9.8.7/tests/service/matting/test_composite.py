import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.matting.composite import (
    blur_background,
    composite_over_colour,
    composite_over_image,
    cover,
    cut_out,
    quantise_alpha,
)


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


@given(st.integers(0, 2**32 - 1))
def test_composite_over_a_picture_follows_the_compositing_equation(seed):
    image, alpha = make_case(seed)
    background, _ = make_case(seed + 1)
    a = alpha[..., np.newaxis].astype(np.float64)
    composite = composite_over_image(image, alpha, background)
    assert composite.dtype == np.uint8
    np.testing.assert_allclose(composite, a * image + (1 - a) * background, atol=1)


SIDE = st.integers(1, 60)


@given(SIDE, SIDE, SIDE, SIDE)
def test_cover_fills_any_size_from_any_picture(height, width, rows, columns):
    background, _ = make_case(1, rows, columns)
    filled = cover(background, height, width)
    assert filled.shape == (height, width, 3) and filled.dtype == np.uint8


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (1, 1)])
@pytest.mark.parametrize("picture", [(1, 5000), (5000, 1), (1, 1), (40, 30)])
def test_cover_takes_extreme_ratios(shape, picture):
    assert cover(make_case(1, *picture)[0], *shape).shape == (*shape, 3)


def test_cover_of_the_same_size_changes_nothing():
    background, _ = make_case(3)
    np.testing.assert_array_equal(cover(background, *background.shape[:2]), background)


@pytest.mark.parametrize("axis", [0, 1])
def test_cover_cuts_both_ends_alike(axis):
    """Nine stripes in a row; a square shows the three in the middle, at their own ratio."""
    stripes = np.repeat(np.arange(0, 225, 25, dtype=np.uint8), 20)
    background = np.repeat(np.tile(stripes, (60, 1))[..., np.newaxis], 3, axis=2)
    turned = background if axis else background.transpose(1, 0, 2)
    for side in (30, 60, 120):
        filled = cover(turned, side, side)
        line = (filled[0] if axis else filled[:, 0])[side // 6 :: side // 3, 0]
        np.testing.assert_array_equal(line, [75, 100, 125])


def make_person(side: int, radius: float):
    """Return a red square person on a grey wall, with a soft edge that mixes both."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    alpha = np.clip(radius - np.maximum(abs(x), abs(y)) + 0.5, 0, 1).astype(np.float32)
    wall = np.full((side, side, 3), (120, 130, 140), np.uint8)
    return composite_over_colour(np.full_like(wall, (255, 0, 0)), alpha, (120, 130, 140)), alpha


@pytest.mark.parametrize("side, radius", [(64, 3.0), (200, 5.0), (400, 12.0), (400, 60.0)])
def test_person_leaves_no_halo_on_the_blurred_background(side, radius):
    image, alpha = make_person(side, side / 5)
    blurred = blur_background(image, alpha, radius)
    assert blurred.shape == image.shape and blurred.dtype == np.uint8
    outside = blurred[alpha < 0.5].astype(float)
    np.testing.assert_allclose(outside - (120, 130, 140), 0, atol=3)


@given(st.integers(0, 2**32 - 1), SIDE, SIDE, st.floats(0.01, 500))
def test_blurred_background_takes_any_picture(seed, height, width, radius):
    image, alpha = make_case(seed, height, width)
    blurred = blur_background(image, alpha, radius)
    assert blurred.shape == image.shape and blurred.dtype == np.uint8
    # A mean of colours is none that is brighter or darker than all.
    assert blurred.min() >= int(image.min()) - 1 and blurred.max() <= int(image.max()) + 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2), (3000, 150)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_blurred_background_of_empty_and_full_mattes(shape, value):
    image = np.full((*shape, 3), (10, 100, 200), np.uint8)
    blurred = blur_background(image, np.full(shape, value, np.float32), 20)
    np.testing.assert_allclose(blurred.astype(float) - image, 0, atol=1)


@pytest.mark.parametrize("radius", [2.0, 10.0, 25.0])
def test_background_is_blurred_by_the_radius(radius):
    """An edge spreads as under a Gaussian of that sigma."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[:, 200:] = 255
    blurred = blur_background(image, np.zeros((400, 400), np.float32), radius)[200, :, 0]
    inner = np.count_nonzero((blurred > 255 * 0.1587) & (blurred < 255 * 0.8413))
    assert inner == pytest.approx(2 * radius, rel=0.12, abs=2)
