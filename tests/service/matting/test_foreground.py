import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.preprocessing import fit_to_network
from service.matting.composite import composite_over_colour
from service.matting.foreground import (
    EPSILON,
    INVISIBLE,
    average,
    estimate_foreground,
    estimate_frame_means,
    estimate_means,
    find_mixed,
    find_sides,
    refine_means,
    unmix,
)
from service.matting.refine import refine_alpha

GREEN = (0, 200, 0)


def make_case(seed: int, shape: tuple[int, int]):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*shape, 3)).astype(np.uint8)
    return image, random.random(shape, np.float32)


def make_banded(side: int, band: int) -> np.ndarray:
    """Return alpha (side, side): a solid left, an empty right, `band` pixels of 128/255 between."""
    alpha = np.zeros((side, side), np.float32)
    alpha[:, : side // 2 + band // 2] = 128 / 255
    alpha[:, : side // 2 - band // 2] = 1
    return alpha


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 80))
def test_foreground_has_the_shape_of_the_image_and_is_exact_where_solid(seed, height, width):
    image, alpha = make_case(seed, (height, width))
    alpha[alpha > 0.7] = 1
    alpha[alpha < 0.2] = 0
    before = image.copy(), alpha.copy()
    foreground = estimate_foreground(image, alpha)
    assert foreground.shape == image.shape and foreground.dtype == np.uint8
    np.testing.assert_array_equal(foreground[alpha == 1], image[alpha == 1])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(alpha, before[1])


@pytest.mark.parametrize("side, band", [(256, 20), (256, 64), (1024, 200)])
def test_wide_half_transparent_band_gets_its_own_colour_back(side, band):
    """A solid colour over white; pasted on white again it is the picture that it was."""
    alpha = make_banded(side, band)
    a = alpha[..., np.newaxis].astype(np.float64)
    image = np.rint(a * (200, 100, 50) + (1 - a) * 255).astype(np.uint8)
    foreground = estimate_foreground(image, alpha)
    mixed = (alpha > 0) & (alpha < 1)
    np.testing.assert_allclose(foreground[mixed] - np.array([200.0, 100, 50]), 0, atol=3)
    pasted = composite_over_colour(foreground, alpha, (255, 255, 255))
    np.testing.assert_allclose(pasted[mixed] - np.array([227.0, 177, 152]), 0, atol=2)


def measure_spill(colour: np.ndarray, alpha: np.ndarray) -> float:
    """Return the mean of max(0, G - max(R, B)) on black where alpha is soft, weighed by alpha."""
    pasted = composite_over_colour(colour, alpha, (0, 0, 0)).astype(np.float64)
    spill = np.maximum(0, pasted[..., 1] - np.maximum(pasted[..., 0], pasted[..., 2]))
    weight = np.where((alpha > 0.05) & (alpha < 0.95), alpha, 0)
    return float((spill * weight).sum() / weight.sum())


def test_person_before_a_green_wall_loses_the_green(portrait, engine):
    matte = engine.run(fit_to_network(portrait, engine.info, None, 1.5)[np.newaxis])[0]
    alpha = refine_alpha(portrait, matte)
    # The photo's own wall would else be taken for the person's colour.
    own = estimate_foreground(portrait, alpha)
    on_wall = composite_over_colour(own, alpha, GREEN)
    before = measure_spill(on_wall, alpha)
    after = measure_spill(estimate_foreground(on_wall, alpha), alpha)
    assert before > 10
    assert after * 10 < before, (before, after)


def test_colour_goes_on_smoothly_where_there_is_nobody():
    """What a filter over the straight cutout finds beside the edge is the person's colour."""
    alpha = make_banded(128, 8)
    image = composite_over_colour(np.full((128, 128, 3), (200, 100, 50), np.uint8), alpha, GREEN)
    beside = estimate_foreground(image, alpha)[:, 68:74]
    np.testing.assert_allclose(beside - np.array([200.0, 100, 50]), 0, atol=12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (90, 70), (700, 500)])
def test_full_matte_gives_the_image_and_an_empty_one_a_picture(shape):
    image, _ = make_case(1, shape)
    full = estimate_foreground(image, np.ones(shape, np.float32))
    np.testing.assert_array_equal(full, image)
    empty = estimate_foreground(image, np.zeros(shape, np.float32))
    assert empty.shape == image.shape and empty.dtype == np.uint8


@pytest.mark.parametrize("shape", [(4000, 200), (200, 4000), (3, 9000), (12_000, 600)])
def test_long_pictures_take_bounded_work(shape):
    image, alpha = make_case(2, shape)
    foreground, background = estimate_means(image, alpha)
    assert foreground.shape == background.shape
    assert foreground.shape[0] * foreground.shape[1] <= 600_000
    assert estimate_foreground(image, alpha).shape == image.shape


def test_means_lie_straight_over_the_picture():
    """A window of an even width would move the colours by half a pixel at each pass."""
    image, alpha = make_case(3, (96, 80))
    alpha = cv2.GaussianBlur(np.round(alpha), (0, 0), 2)
    upright = estimate_foreground(image, alpha)
    mirrored = estimate_foreground(image[::-1, ::-1].copy(), alpha[::-1, ::-1].copy())
    np.testing.assert_allclose(mirrored[::-1, ::-1].astype(float), upright, atol=1)


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[::-1], np.s_[::2, ::3], np.s_[10:, 7:-3]])
def test_views_give_what_copies_give(view):
    image, alpha = make_case(4, (200, 300))
    part, share = image[view], alpha[view]
    expected = estimate_foreground(np.ascontiguousarray(part), np.ascontiguousarray(share))
    np.testing.assert_array_equal(estimate_foreground(part, share), expected)


@pytest.mark.parametrize("shape", [(200, 300), (64, 64), (65, 129), (500, 450)])
def test_mixed_pixels_are_unmixed_with_the_means_and_others_left(shape):
    image, alpha = make_case(5, shape)
    alpha[:, 50:120] = 1
    alpha[:, 140:] = 0
    alpha[40:50] = 0.5
    means = estimate_means(image, alpha)
    foreground, background = (cv2.resize(mean, shape[::-1]) for mean in means)
    pixels = (x.reshape(-1, 3) for x in (foreground, background))
    expected = unmix(image.reshape(-1, 3), alpha.reshape(-1), *pixels).reshape(image.shape)
    expected = np.where(alpha[..., None] == 1, image, expected)
    found = estimate_foreground(image, alpha)
    np.testing.assert_array_equal(found[alpha == 0], foreground[alpha == 0])
    mixed = (alpha > INVISIBLE) & (alpha < 1 - INVISIBLE)
    np.testing.assert_array_equal(found[mixed], expected[mixed])
    np.testing.assert_allclose(found.astype(int), expected, atol=1)


def test_unmixing_inverts_the_mixture():
    """Exactly at alpha 1; else so much of the way as the picture says about the person."""
    image = np.full((3, 3), 100, np.uint8)
    mean = np.full_like(image, 200)
    behind = np.full_like(image, 20)
    alpha = np.array([0, 0.5, 1], np.float32)
    # At one half 110 were expected, 10 more than there are: half of that is taken off.
    np.testing.assert_array_equal(unmix(image, alpha, mean, behind)[:, 0], [200, 195, 100])


def refine_means_in_doubles(image, alpha, means, windows):
    """Return what `refine_means` does, in float64 and as Forte's paper says it."""
    picture, a = image.astype(np.float64), alpha[..., None].astype(np.float64)
    shares = a, 1 - a
    means = [mean.astype(np.float64) for mean in means or (picture, picture)]
    for window in windows:
        side = max(3, round(window * min(alpha.shape)) | 1)
        missing = picture - shares[0] * means[0] - shares[1] * means[1]
        missing /= shares[0] ** 2 + shares[1] ** 2
        for n, share in enumerate(shares):
            weight = share**3
            colour = np.clip(means[n] + share * missing, 0, 255) * weight
            total = cv2.blur(weight[..., 0], (side, side))[..., None] + EPSILON
            means[n] = (cv2.blur(colour, (side, side)) + EPSILON * means[n]) / total
    return means


@pytest.mark.parametrize("shape", [(60, 90), (33, 20)])
@pytest.mark.parametrize("is_sure", [True, False])
def test_means_are_those_of_the_paper(shape, is_sure):
    image, alpha = make_case(6, shape)
    if is_sure:
        alpha = np.clip((cv2.GaussianBlur(alpha, (0, 0), 3) - 0.5) * 20 + 0.5, 0, 1)
        assert 0.1 < ((alpha > 0) & (alpha < 1)).mean() < 0.9
    windows = (0.5, 0.1, 0.05)
    wider = [cv2.blur(image, (9, 9)).astype(np.float32), image.astype(np.float32)]
    for start in (None, wider):
        found = refine_means(image, alpha, start, find_sides(windows, shape))
        expected = refine_means_in_doubles(image, alpha, start, windows)
        np.testing.assert_allclose(found, expected, atol=0.05)  # of 255


def test_means_of_a_frame_are_those_of_a_photo(portrait):
    """Made from the picture for the network; of colours that mix, the mean difference is small."""
    photo = cv2.resize(portrait, (640, 360), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:360, :640]
    alpha = np.clip((120 - np.hypot(x - 320, y - 180)) / 20 + 0.5, 0, 1).astype(np.float32)
    small = cv2.resize(photo, (320, 180), interpolation=cv2.INTER_AREA)
    grey = np.rint(alpha * 255).astype(np.uint8)
    found = estimate_frame_means(small, grey, 128)
    expected = estimate_means(photo, alpha, 128)
    near = cv2.resize(alpha, found[0].shape[1::-1])
    near = (near > 0.02) & (near < 0.98)
    for mean, other in zip(found, expected, strict=True):
        assert mean.shape == other.shape == (128, 228, 3)
        assert np.abs(mean[near].astype(int) - other[near]).mean() < 2


@pytest.mark.parametrize("center", [(60, 50), (0, 0), (150, 95)])
def test_means_near_the_edges_are_those_of_the_whole_picture(portrait, center) -> None:
    small = cv2.resize(portrait, (160, 100), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:100, :160]
    distance = np.hypot(x - center[0], y - center[1])
    grey = np.rint(np.clip((30 - distance) / 6 + 0.5, 0, 1) * 255).astype(np.uint8)
    share = grey.astype(np.float32) / np.float32(255)
    whole, near = average(small, share), average(small, share, near=find_mixed(grey))
    mixed = cv2.dilate(cv2.inRange(grey, 1, 254), np.ones((5, 5), np.uint8)) > 0
    assert 0.01 < mixed.mean() < 0.5
    for ours, theirs in zip(near, whole, strict=True):
        np.testing.assert_array_equal(ours[mixed], theirs[mixed])


def test_matte_without_an_edge_has_wide_means_alone(portrait) -> None:
    small = cv2.resize(portrait, (64, 48), interpolation=cv2.INTER_AREA)
    for value in (0, 255):
        grey = np.full((48, 64), value, np.uint8)
        for mean in average(small, grey / np.float32(255), near=find_mixed(grey)):
            assert mean.shape == small.shape
