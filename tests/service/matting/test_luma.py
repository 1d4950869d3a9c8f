import cv2
import numpy as np
import pytest

from service.matting.cleanup import settle_ends
from service.matting.luma import EPSILON, fit_luma, refine_on_luma
from service.matting.refine import find_band
from service.matting.resize import resize_alpha


def make_noise(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def make_disc(side: int) -> np.ndarray:
    """Return a disc's alpha, soft over one pixel: (side, side) float32."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    return np.clip(side * 0.3 - np.hypot(x, y) + 0.5, 0, 1).astype(np.float32)


def shrink(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def mean_of_windows(x: np.ndarray) -> np.ndarray:
    """Return the mean of 3 x 3 in float64, mirrored at the border."""
    wide = np.pad(x.astype(np.float64), 1, "reflect")
    height, width = x.shape
    return sum(wide[i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9


@pytest.mark.parametrize(
    "shape, matte", [((1, 1), (1, 1)), ((1, 400), (32, 64)), ((90, 70), (9, 8))]
)
def test_matte_of_any_shape_gets_the_size_of_the_frame_and_stays_in_range(shape, matte):
    alpha = np.random.default_rng(1).random(matte, np.float32)
    before = alpha.copy()
    luma = make_noise(1, shape)
    refined = refine_on_luma(luma, alpha, shrink(luma, matte))
    assert refined.shape == shape and refined.dtype == np.float32
    assert refined.min() >= 0 and refined.max() <= 1
    np.testing.assert_array_equal(alpha, before)


@pytest.mark.parametrize("shape", [(40, 50), (20, 30)])
def test_frame_no_larger_than_the_matte_gets_the_resized_matte(shape):
    alpha = np.random.default_rng(2).random((40, 50), np.float32)
    luma = make_noise(2, shape)
    refined = refine_on_luma(luma, alpha, cv2.resize(luma, (50, 40)))
    np.testing.assert_array_equal(refined, settle_ends(resize_alpha(alpha, *shape)))


@pytest.mark.parametrize("value", [0.0, 0.006, 0.994, 1.0])
def test_decided_matte_becomes_whole(value):
    luma = make_noise(3, (200, 300))
    refined = refine_on_luma(luma, np.full((32, 48), value, np.float32), shrink(luma, (32, 48)))
    np.testing.assert_array_equal(refined, np.full((200, 300), round(value)))


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_staircase_of_the_matte_comes_out_on_the_edge_of_the_frame(ratio):
    """A hard matte of few pixels, and a frame whose luma shows where the edge is."""
    true = make_disc(64 * ratio)
    luma = np.rint(60 + 100 * true).astype(np.uint8)
    coarse = (shrink(true, (64, 64)) > 0.5).astype(np.float32)
    refined = refine_on_luma(luma, coarse, shrink(luma, coarse.shape))
    error = np.abs(refined - true).mean()
    plain_error = np.abs(resize_alpha(coarse, *true.shape) - true).mean()
    assert error * 3 < plain_error, (error, plain_error)


def test_texture_touches_only_the_surroundings_of_the_undecided_band():
    luma, alpha = make_noise(4, (600, 600)), make_disc(64)
    refined = refine_on_luma(luma, alpha, shrink(luma, alpha.shape))
    near = cv2.dilate(find_band(alpha).astype(np.uint8), np.ones((5, 5), np.uint8))
    far = cv2.resize(near, (600, 600), interpolation=cv2.INTER_LINEAR) == 0
    plain = settle_ends(resize_alpha(alpha, 600, 600))
    assert far[0, 0] and far[300, 300]
    np.testing.assert_allclose(refined[far], plain[far], atol=1e-6)
    assert np.abs(refined - plain).max() > 0.05  # the noise does reach the band


def test_fitted_luma_is_the_least_squares_fit_of_the_windows():
    random = np.random.default_rng(5)
    luma, alpha = random.random((2, 20, 30), np.float32)
    mean_luma, mean_alpha = mean_of_windows(luma), mean_of_windows(alpha)
    variance = mean_of_windows(luma.astype(np.float64) ** 2) - mean_luma**2
    covariance = mean_of_windows(luma.astype(np.float64) * alpha) - mean_luma * mean_alpha
    slope = covariance / (variance + EPSILON)
    expected = mean_of_windows(slope), mean_of_windows(mean_alpha - slope * mean_luma)
    for found, wanted in zip(fit_luma(luma, alpha), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
