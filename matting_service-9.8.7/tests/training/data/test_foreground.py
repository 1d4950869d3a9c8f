import numpy as np
import pytest

from training.data.foreground import estimate_foreground

RED, GREEN, BLUE = np.eye(3, dtype=np.float32)


def make_alpha(size: int = 128) -> np.ndarray:
    """Return a disc with an edge ten pixels wide and some thin hairs."""
    y, x = np.mgrid[:size, :size] - size / 2
    alpha = np.clip((0.3 * size - np.hypot(x, y)) / 10 + 0.5, 0, 1)
    alpha[10:40, 40:90:6] = 0.5
    return alpha.astype(np.float32)


def composite(foreground, background, alpha):
    return foreground * alpha[:, :, None] + background * (1 - alpha[:, :, None])


def test_old_background_leaves_no_rim_on_a_new_one():
    alpha = make_alpha()
    photo = composite(RED, GREEN, alpha)
    estimate = estimate_foreground(photo, alpha)
    truth = composite(RED, BLUE, alpha)
    assert np.abs(composite(estimate, BLUE, alpha) - truth).max() < 0.05
    assert np.abs(composite(photo, BLUE, alpha) - truth).max() > 0.2  # what would be seen without


def test_colour_of_the_person_is_kept_where_alpha_is_1():
    rng = np.random.default_rng(0)
    photo = rng.random((64, 64, 3), dtype=np.float32)
    alpha = np.zeros((64, 64), np.float32)
    alpha[:, 20:50] = 1
    estimate = estimate_foreground(photo, alpha)
    np.testing.assert_allclose(estimate[:, 20:50], photo[:, 20:50], atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_estimate_is_finite_and_in_range_without_an_edge(value):
    photo = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    estimate = estimate_foreground(photo, np.full((20, 30), value, np.float32))
    assert estimate.shape == photo.shape and estimate.dtype == np.float32
    assert np.isfinite(estimate).all() and estimate.min() >= 0 and estimate.max() <= 1
