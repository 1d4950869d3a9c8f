import cv2
import numpy as np
import pytest

from service.matting.foreground import unmix
from service.matting.overlay import lay_over, sample_at

SHAPE = 90, 130


@pytest.fixture
def alpha() -> np.ndarray:
    """A solid left, an empty right, all levels between."""
    columns = np.clip(np.arange(SHAPE[1]) * 3 - 60, 0, 255).astype(np.uint8)
    return np.tile(255 - columns, (SHAPE[0], 1))


def make_planes(seed: int, count: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, *SHAPE)).astype(np.uint8))


def lay(planes, alpha, backgrounds, means) -> list[np.ndarray]:
    results = [np.empty_like(plane) for plane in planes]
    lay_over(planes, alpha, backgrounds, means, results)
    return results


def test_planes_are_mixed_by_alpha_and_exact_at_its_ends(alpha: np.ndarray) -> None:
    planes, backgrounds = make_planes(1, 2), make_planes(2, 2)
    for plane, background, found in zip(
        planes, backgrounds, lay(planes, alpha, backgrounds, None), strict=True
    ):
        share = alpha / 255
        np.testing.assert_allclose(found, share * plane + (1 - share) * background, atol=0.502)
        np.testing.assert_array_equal(found[alpha == 255], plane[alpha == 255])
        np.testing.assert_array_equal(found[alpha == 0], background[alpha == 0])


def test_old_background_is_taken_out_as_by_unmix(alpha: np.ndarray) -> None:
    planes, backgrounds = make_planes(3, 3), make_planes(4, 3)
    own, other = ((200, 120, 40), (30, 90, 210))
    pairs = [value for both in zip(own, other, strict=True) for value in both]
    means = np.full((9, 13, 6), pairs, np.uint8)
    found = np.dstack(lay(planes, alpha, backgrounds, means)).reshape(-1, 3)
    share = (alpha.reshape(-1) / np.float32(255)).astype(np.float32)
    whole = (np.full((share.size, 3), colour, np.uint8) for colour in (own, other))
    foreground = unmix(np.dstack(planes).reshape(-1, 3), share, *whole).astype(float)
    behind = np.dstack(backgrounds).reshape(-1, 3)
    expected = share[:, None] * foreground + (1 - share[:, None]) * behind
    # The reference rounds the foreground to whole numbers before it is mixed.
    np.testing.assert_allclose(found, expected, atol=1.01)


def test_means_are_sampled_as_an_enlarged_picture_has_them() -> None:
    small = cv2.GaussianBlur(make_planes(5, 1)[0][:18, :26], (0, 0), 2)
    picture = np.dstack([small, 255 - small])
    enlarged = cv2.resize(picture, SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
    index = np.arange(0, SHAPE[0] * SHAPE[1], 7)
    found = sample_at(picture, index, SHAPE)
    np.testing.assert_allclose(found, enlarged.reshape(-1, 2)[index], atol=2)
