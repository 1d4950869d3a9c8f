import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.matting import cleanup
from service.matting.cleanup import blur_alpha, clean_alpha, make_disc, split_radius
from service.threads import TooLate

SEED = st.integers(0, 2**32 - 1)


def make_alpha(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def make_dot(side: int) -> np.ndarray:
    alpha = np.zeros((side, side), np.float32)
    alpha[side // 2, side // 2] = 1
    return alpha


def test_without_options_the_matte_is_the_one_given():
    alpha = make_alpha(1, (9, 7))
    assert clean_alpha(alpha) is alpha


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "threshold": st.floats(0.01, 0.99),
        "erode": st.integers(0, 100),
        "dilate": st.integers(0, 100),
        "feather": st.floats(0, 100),
        "keep_largest": st.booleans(),
    },
)


@given(SEED, st.integers(1, 40), st.integers(1, 40), OPTIONS)
def test_cleaned_matte_is_a_matte_and_the_given_one_is_left(seed, height, width, options):
    alpha = make_alpha(seed, (height, width))
    before = alpha.copy()
    cleaned = clean_alpha(alpha, **options)
    assert cleaned.shape == alpha.shape and cleaned.dtype == np.float32
    assert np.isfinite(cleaned).all() and cleaned.min() >= 0 and cleaned.max() <= 1
    np.testing.assert_array_equal(alpha, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (30, 30)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_mattes_stay_as_they_are(shape, value):
    alpha = np.full(shape, value, np.float32)
    cleaned = clean_alpha(alpha, threshold=0.5, erode=7, dilate=7, feather=30.0, keep_largest=True)
    np.testing.assert_allclose(cleaned, alpha, atol=1e-6)


@given(
    SEED,
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 12),
    st.sampled_from(("erode", "dilate")),
)
def test_tiles_are_those_of_the_whole_matte(seed, height, width, radius, change):
    """A matte of a few discs and much that is sure, in tiles that are small beside it."""
    alpha = make_alpha(seed, (height, width))
    alpha[alpha < 0.97] = 0 if change == "dilate" else 1
    expected = alpha
    for step in split_radius(radius):
        expected = getattr(cv2, change)(expected, make_disc(step))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "TILE", 16)
        np.testing.assert_array_equal(clean_alpha(alpha, **{change: radius}), expected)


@given(SEED, st.integers(1, 70), st.integers(1, 70), st.floats(0.01, 8))
def test_blurred_tiles_are_those_of_the_whole_matte(seed, height, width, sigma):
    alpha = make_alpha(seed, (height, width))
    alpha[: height // 2] = 0
    expected = np.minimum(cv2.GaussianBlur(alpha, (0, 0), sigma), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "TILE", 16)
        np.testing.assert_allclose(blur_alpha(alpha, sigma), expected, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"erode": 100}, {"dilate": 100}, {"feather": 8}, {"keep_largest": True}]
)
def test_clean_up_ends_when_nobody_waits(options):
    """However large the matte is, no more than two of its tiles are worked on."""
    asked = []

    def is_late():
        asked.append(1)
        return len(asked) > 1

    alpha = make_alpha(3, (1100, 700))
    alpha[500:600] = 0  # between two pieces
    with pytest.raises(TooLate):
        clean_alpha(alpha, **options, is_late=is_late)
    assert len(asked) == 2


def test_threshold_counts_its_own_value_as_the_person():
    alpha = np.array([[0.49, 0.5, 0.51]], np.float32)
    np.testing.assert_array_equal(clean_alpha(alpha, threshold=0.5), [[0, 1, 1]])


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 6, 11, 20, 50, 100])
def test_dilating_a_dot_makes_a_disc(radius):
    grown = clean_alpha(make_dot(2 * radius + 41), dilate=radius)
    y, x = np.nonzero(grown)
    middle = radius + 20
    distance = np.hypot(y - middle, x - middle)
    # Exactly so far along the axes, within a tenth and a pixel everywhere.
    assert y.min() == x.min() == middle - radius and y.max() == x.max() == middle + radius
    assert distance.max() <= 1.1 * radius + 1
    outside = np.argwhere(grown == 0) - middle
    assert np.hypot(*outside.T).min() >= 0.9 * radius - 1


@given(SEED, st.integers(1, 15))
def test_eroding_is_dilating_the_background(seed, radius):
    alpha = make_alpha(seed, (40, 30))
    eroded, dilated = clean_alpha(alpha, erode=radius), clean_alpha(1 - alpha, dilate=radius)
    np.testing.assert_allclose(eroded, 1 - dilated, atol=1e-6)
    assert (eroded <= alpha).all()


@given(st.integers(0, 200))
def test_radius_is_split_into_small_ones_of_the_same_sum(radius):
    parts = split_radius(radius)
    assert sum(parts) == radius and all(1 <= part <= 5 for part in parts)


@pytest.mark.parametrize("sigma", [0.3, 3, 8, 12, 20])
def test_feather_is_a_gaussian(sigma):
    alpha = np.zeros((500, 400), np.float32)
    alpha[150:350, 120:260] = 1
    expected = cv2.GaussianBlur(alpha, (0, 0), sigma)
    np.testing.assert_allclose(blur_alpha(alpha, sigma), expected, atol=0.01)


def test_wide_feather_of_a_large_matte_is_a_gaussian():
    alpha = np.zeros((900, 1200), np.float32)
    alpha[300:600, 400:800] = 1
    expected = cv2.GaussianBlur(alpha, (0, 0), 60)
    np.testing.assert_allclose(blur_alpha(alpha, 60), expected, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 3), (12_000, 600)])
def test_wide_feather_of_any_shape_keeps_the_shape(shape):
    soft = clean_alpha(make_alpha(2, shape), feather=100)
    assert soft.shape == shape and np.isfinite(soft).all()
    assert 0.4 < soft.mean() < 0.6 or shape == (1, 1)


def two_pieces() -> np.ndarray:
    alpha = np.zeros((40, 80), np.float32)
    alpha[10:30, 10:30] = 1  # the larger one
    alpha[15:25, 60:70] = 0.9
    alpha[10:30, 30:34] = 0.3  # its hair
    alpha[15:25, 56:60] = 0.2  # haze of the other
    return alpha


def test_largest_piece_keeps_its_hair_and_the_other_takes_its_haze_away():
    cleaned = clean_alpha(two_pieces(), keep_largest=True)
    expected = two_pieces()
    expected[:, 50:] = 0
    np.testing.assert_array_equal(cleaned, expected)


def test_solid_islands_in_loose_hair_stay_with_the_head():
    alpha = two_pieces()
    alpha[10:30:4, 31:33] = 0.7  # wisps that only their haze joins to the head
    expected = alpha.copy()
    expected[:, 50:] = 0
    np.testing.assert_array_equal(clean_alpha(alpha, keep_largest=True), expected)


def test_faint_alpha_goes_with_the_nearest_piece():
    alpha = two_pieces()
    alpha[alpha == 0] = 0.05
    cleaned = clean_alpha(alpha, keep_largest=True)
    np.testing.assert_array_equal(cleaned[10:30, 30:40], alpha[10:30, 30:40])
    assert not cleaned[10:30, 50:].any()


@pytest.mark.parametrize("turn", range(4))
def test_largest_piece_is_found_wherever_it_is(turn):
    alpha = np.rot90(two_pieces(), turn)
    cleaned = clean_alpha(alpha, keep_largest=True)
    np.testing.assert_array_equal(np.rot90(cleaned, -turn)[:, :34], two_pieces()[:, :34])
    assert not np.rot90(cleaned, -turn)[:, 50:].any()


def test_soft_matte_without_a_solid_piece_is_kept():
    alpha = np.full((8, 8), 0.4, np.float32)
    np.testing.assert_array_equal(clean_alpha(alpha, keep_largest=True), alpha)


def test_pieces_that_touch_at_a_corner_are_one():
    alpha = np.eye(6, dtype=np.float32)
    np.testing.assert_array_equal(clean_alpha(alpha, keep_largest=True), alpha)


def test_largest_piece_goes_before_the_threshold():
    """The haze that a low threshold would make solid belongs to a piece that is dropped."""
    cleaned = clean_alpha(two_pieces(), keep_largest=True, threshold=0.15)
    assert cleaned[:, 30:34].any() and not cleaned[:, 50:].any()
    assert set(np.unique(cleaned)) == {0, 1}


def test_threshold_goes_before_the_brushes_and_the_feather_last():
    alpha = np.zeros((60, 60), np.float32)
    alpha[20:40, 20:40] = 0.6
    grown = clean_alpha(alpha, threshold=0.5, dilate=3)
    assert grown.max() == 1 and grown[30, 17] == 1 and grown[30, 16] == 0
    soft = clean_alpha(alpha, threshold=0.5, dilate=3, feather=2)
    np.testing.assert_allclose(soft, cv2.GaussianBlur(grown, (0, 0), 2), atol=1e-6)


def test_erode_then_dilate_removes_specks():
    alpha = np.maximum(make_dot(41), 0)
    alpha[:15, :15] = 1
    cleaned = clean_alpha(alpha, erode=2, dilate=2)
    assert cleaned[20, 20] == 0 and cleaned[5, 5] == 1


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-1], np.s_[::2, ::3]])
def test_views_give_what_copies_give(view):
    alpha = make_alpha(3, (60, 70))
    options = {"keep_largest": True, "threshold": 0.6, "erode": 2, "dilate": 7, "feather": 1.5}
    expected = clean_alpha(np.ascontiguousarray(alpha[view]), **options)
    np.testing.assert_array_equal(clean_alpha(alpha[view], **options), expected)
