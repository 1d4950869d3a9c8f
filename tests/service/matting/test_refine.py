import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.matting import refine
from service.matting.refine import EPSILON, find_band, fit_colours, refine_alpha, solve_symmetric
from service.matting.resize import resize_alpha, resize_image


def make_case(seed: int, shape: tuple[int, int], matte: tuple[int, int]):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*shape, 3)).astype(np.uint8)
    return image, random.random(matte, np.float32)


def make_disc(side: int) -> np.ndarray:
    """Return a disc's alpha, soft over one pixel: (side, side) float32."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    return np.clip(side * 0.3 - np.hypot(x, y) + 0.5, 0, 1).astype(np.float32)


def paint(alpha: np.ndarray, person, wall) -> np.ndarray:
    a = alpha[..., np.newaxis]
    return np.rint(a * np.array(person) + (1 - a) * np.array(wall)).astype(np.uint8)


SIDE = st.integers(1, 90)
SHAPE = st.tuples(SIDE, SIDE)
SEED = st.integers(0, 2**32 - 1)


@given(SEED, SHAPE, st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_refined_matte_has_the_size_of_the_image_and_stays_in_range(seed, shape, matte):
    image, alpha = make_case(seed, shape, matte)
    before = alpha.copy()
    refined = refine_alpha(image, alpha)
    assert refined.shape == shape and refined.dtype == np.float32
    assert np.isfinite(refined).all() and refined.min() >= 0 and refined.max() <= 1
    np.testing.assert_array_equal(alpha, before)


@pytest.mark.parametrize(
    "shape, matte",
    [
        ((1, 1), (1, 1)),
        ((5, 5), (1, 1)),
        ((1, 4000), (32, 64)),  # fewer rows than the matte has cells
        ((4000, 1), (64, 32)),
        ((300, 300), (2, 2)),
        ((12_000, 600), (64, 32)),
        ((12_000, 600), (1600, 80)),
        ((60, 40_000), (32, 20_000)),  # wider than a signed 16-bit number
    ],
)
def test_any_shape_is_refined(shape, matte):
    image, alpha = make_case(1, shape, matte)
    refined = refine_alpha(image, alpha)
    assert refined.shape == shape
    assert np.isfinite(refined).all() and refined.min() >= 0 and refined.max() <= 1


@pytest.mark.parametrize("shape", [(40, 50), (20, 30), (40, 49)])
def test_image_no_larger_than_the_matte_gets_the_resized_matte(shape):
    image, alpha = make_case(2, shape, (40, 50))
    np.testing.assert_array_equal(refine_alpha(image, alpha), resize_alpha(alpha, *shape))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_whole_matte_stays_whole(value):
    image, _ = make_case(3, (200, 300), (1, 1))
    refined = refine_alpha(image, np.full((32, 48), value, np.float32))
    np.testing.assert_array_equal(refined, np.full((200, 300), value))


def test_texture_touches_only_the_surroundings_of_the_undecided_band():
    image, _ = make_case(4, (600, 600), (1, 1))
    alpha = make_disc(64)
    refined = refine_alpha(image, alpha)
    decided = cv2.resize((~find_band(alpha)).astype(np.uint8), (600, 600))
    far = cv2.erode(decided, np.ones((61, 61), np.uint8)).astype(bool)
    plain = resize_alpha(alpha, 600, 600)
    assert far[0, 0] and far[300, 300]
    np.testing.assert_array_equal(refined[far], plain[far])
    assert np.abs(refined - plain).max() > 0.05  # the noise does reach the band


def refine_at_once(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return what `refine_alpha` should, without cells."""
    small = resize_image(image, alpha.shape).astype(np.float32) / 255
    model = fit_colours(small, alpha, np.ones_like(alpha, bool))
    model[..., 3] -= alpha
    model *= cv2.blur(find_band(alpha).astype(np.float32), (3, 3))[..., np.newaxis]
    height, width = image.shape[:2]
    whole = cv2.resize(model, (width, height), interpolation=cv2.INTER_LINEAR)
    change = (whole[..., :3] * image / np.float32(255)).sum(axis=2) + whole[..., 3]
    return np.clip(resize_alpha(alpha, height, width) + change, 0, 1)


@pytest.mark.parametrize("edge", range(14, 34))
def test_cells_join_without_seams_wherever_the_edge_is(edge):
    """At a ratio of 8 the sampler is exact, so that a cell left out shows."""
    image, _ = make_case(5, (320, 384), (1, 1))
    columns = np.clip((np.arange(48, dtype=np.float32) - edge) / 4, 0, 1)
    alpha = np.tile(columns, (40, 1))
    expected = refine_at_once(image, alpha)
    np.testing.assert_allclose(refine_alpha(image, alpha), expected, atol=1e-3)
    turned = image.transpose(1, 0, 2).copy()
    np.testing.assert_allclose(refine_alpha(turned, alpha.T.copy()), expected.T, atol=1e-3)


@pytest.mark.parametrize("shape", [(640, 640), (333, 517), (900, 70), (70, 900)])
def test_cells_join_without_seams_at_any_ratio(shape):
    """But for the sampler's positions, which are multiples of 1/32."""
    image, _ = make_case(5, shape, (1, 1))
    image = cv2.GaussianBlur(image, (0, 0), 3)
    alpha = cv2.resize(make_disc(100), (70, 66), interpolation=cv2.INTER_AREA)
    difference = np.abs(refine_alpha(image, alpha) - refine_at_once(image, alpha))
    assert difference.max() < 0.05 and difference.mean() < 5e-4


@pytest.mark.parametrize("ratio, gain", [(4, 4), (8, 4), (15, 4)])
def test_staircase_of_the_matte_comes_out_on_the_edge_of_the_image(ratio, gain):
    """A hard matte of few pixels, and a photo whose colours show where the edge is."""
    true = make_disc(64 * ratio)
    image = paint(true, (200, 60, 40), (30, 90, 180))
    coarse = (cv2.resize(true, (64, 64), interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)
    refined, plain = refine_alpha(image, coarse), resize_alpha(coarse, *true.shape)
    error, plain_error = np.abs(refined - true).mean(), np.abs(plain - true).mean()
    assert error * gain < plain_error, (error, plain_error)


def test_image_without_an_edge_leaves_the_matte_as_it_is():
    image = np.full((512, 512, 3), (90, 120, 60), np.uint8)
    alpha = make_disc(64)
    # A window without colours fits its mean: the matte under two box filters, no more.
    mean = cv2.blur(cv2.blur(alpha, (5, 5)), (5, 5))
    expected = resize_alpha(np.where(find_band(alpha), mean, alpha), 512, 512)
    np.testing.assert_allclose(refine_alpha(image, alpha), expected, atol=0.05)


@pytest.mark.parametrize(
    "view", [np.s_[:, ::-1], np.s_[::-1], np.s_[::2, ::3], np.s_[..., ::-1], np.s_[10:, 7:-3]]
)
def test_views_give_what_copies_give(view):
    image, alpha = make_case(6, (400, 300), (60, 50))
    part, turned = image[view], alpha[::-1, ::-1]
    expected = refine_alpha(np.ascontiguousarray(part), np.ascontiguousarray(turned))
    np.testing.assert_array_equal(refine_alpha(part, turned), expected)


def test_read_only_arrays_are_taken():
    image, alpha = make_case(7, (200, 200), (30, 30))
    image.setflags(write=False)
    alpha.setflags(write=False)
    assert refine_alpha(image, alpha).shape == (200, 200)


def test_hard_edge_without_undecided_pixels_is_in_the_band():
    alpha = np.zeros((20, 20), np.float32)
    alpha[:, 10:] = 1
    band = find_band(alpha)
    assert band[:, 8:12].all() and not band[:, :6].any() and not band[:, 14:].any()


@pytest.mark.parametrize("value", [0.0, 0.01, 0.99, 1.0])
def test_decided_matte_has_no_band(value):
    assert not find_band(np.full((9, 9), value, np.float32)).any()


@given(SEED)
def test_symmetric_systems_are_solved(seed):
    random = np.random.default_rng(seed)
    samples = random.random((25, 3)) * random.choice([1, 1e-2, 1e-4])
    matrix = np.cov(samples.T, bias=True)
    right = random.random(3).astype(np.float32)
    planes = [np.full((2, 3), matrix[i, j], np.float32) for i in range(3) for j in range(i, 3)]
    solved = solve_symmetric(planes, [np.full((2, 3), x, np.float32) for x in right])
    expected = np.linalg.solve(matrix + EPSILON * np.eye(3), right)
    for plane, value in zip(solved, expected, strict=True):
        assert plane.shape == (2, 3) and plane.dtype == np.float32
        np.testing.assert_allclose(plane, value, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_fitted_colours_reproduce_a_linear_matte():
    image = cv2.GaussianBlur(np.random.default_rng(8).random((40, 50, 3), np.float32), (0, 0), 1)
    alpha = (0.5 * image[..., 0] - 0.3 * image[..., 1] + 0.2 * image[..., 2] + 0.3).astype("f4")
    model = fit_colours(image, alpha, np.ones_like(alpha, bool))
    assert model.shape == (40, 50, 4) and model.dtype == np.float32
    fitted = (model[..., :3] * image).sum(axis=2) + model[..., 3]
    np.testing.assert_allclose(fitted, alpha, atol=0.01)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_value(monkeypatch, threads):
    monkeypatch.setattr(refine, "LARGE", 0)
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (1000, 900, 3), np.uint8)
    matte = cv2.GaussianBlur(rng.random((200, 180), np.float32), (0, 0), 8)
    matte = np.clip((matte - matte.mean()) * 40 + 0.5, 0, 1)
    alone = refine_alpha(image, matte)
    assert not np.array_equal(alone, resize_alpha(matte, 1000, 900))
    np.testing.assert_array_equal(refine_alpha(image, matte, threads=threads), alone)
