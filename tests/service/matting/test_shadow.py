import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.matting.composite import composite_over_image
from service.matting.shadow import SHADOWS, cast_shadow, darken, lay_under

SIZES = [(120, 160), (900, 700), (7, 200), (1, 1)]


def draw_person(height: int, width: int) -> np.ndarray:
    alpha = np.zeros((height, width), np.float32)
    alpha[height // 4 : height // 2, width // 4 : width // 2] = 1
    return alpha


def find_centre(layer: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(layer.shape)
    return float((rows * layer).sum() / layer.sum()), float((columns * layer).sum() / layer.sum())


@pytest.mark.parametrize("name", SHADOWS)
@pytest.mark.parametrize("size", [(480, 640), (1600, 1200)])
def test_shadow_is_the_matte_moved_blurred_and_thinned(name, size) -> None:
    alpha = draw_person(*size)
    shadow, wanted = cast_shadow(alpha, name), SHADOWS[name]
    assert shadow.dtype == np.float32 and shadow.shape == size
    assert shadow.min() >= 0 and shadow.max() == pytest.approx(wanted.opacity, abs=0.01)
    down, right = np.subtract(find_centre(shadow), find_centre(alpha))
    side = max(size)
    assert (down, right) == pytest.approx((wanted.down * side, wanted.right * side), abs=1.5)
    # Blurring keeps the mass of what lies far from the border.
    assert shadow.sum() == pytest.approx(wanted.opacity * alpha.sum(), rel=0.02)


@pytest.mark.parametrize("name", SHADOWS)
def test_shadow_of_a_person_cut_off_by_the_border_does_not_fade_there(name) -> None:
    alpha = np.zeros((400, 400), np.float32)
    alpha[200:, :] = 1
    shadow = cast_shadow(alpha, name)
    np.testing.assert_allclose(shadow[-1], SHADOWS[name].opacity, atol=1e-3)
    assert np.abs(shadow - shadow[:, :1]).max() < 1e-3, "the same in every column"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_shadow_of_nobody_and_of_everything(size, value) -> None:
    shadow = cast_shadow(np.full(size, value, np.float32), "soft")
    np.testing.assert_allclose(shadow, value * SHADOWS["soft"].opacity, atol=1e-5)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_cutout_with_shadow_gives_the_composite_with_shadow(seed) -> None:
    random = np.random.default_rng(seed)
    colour, behind = random.integers(0, 256, (2, 11, 9, 3)).astype(np.uint8)
    alpha, shadow = random.random((2, 11, 9), np.float32)
    wanted = composite_over_image(colour, alpha, darken(behind, shadow))
    straight, both = lay_under(colour, alpha, shadow)
    got = composite_over_image(straight, both, behind)
    np.testing.assert_allclose(got.astype(int), wanted.astype(int), atol=2)


def test_what_no_shadow_reaches_is_unchanged() -> None:
    random = np.random.default_rng(3)
    colour = random.integers(0, 256, (20, 20, 3)).astype(np.uint8)
    alpha = random.random((20, 20), np.float32)
    alpha[:5] = 0
    straight, both = lay_under(colour, alpha, np.zeros_like(alpha))
    np.testing.assert_array_equal(straight, colour)
    np.testing.assert_array_equal(both, alpha)
