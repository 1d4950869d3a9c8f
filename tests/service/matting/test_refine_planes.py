"""The matte of a frame in planes, against the same in floats and NumPy."""

import cv2
import numpy as np
import pytest

from service.matting.cleanup import settle_ends
from service.matting.refine import find_band, fit_colours
from service.matting.refine_planes import choose_part, refine_planes
from service.matting.resize import resize_alpha
from service.media.colour.planes import YuvPicture
from service.media.video.writing.yuv import YuvConverter
from tests.clips import picture

GREATEST_DIFFERENCE = 1  # of 255


def make_frame(width: int, height: int) -> YuvPicture:
    frame = YuvConverter(width, height, "yuv420p", 1).convert(picture(0, (width, height)))
    return YuvPicture(frame.to_ndarray(), 1)


def make_matte(height: int, width: int, softness: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    distance = height / 3 - np.hypot(x - width / 2, y - height / 2)
    return np.clip(distance / softness + 0.5, 0, 1).astype(np.float32)


def refine_in_floats(frame: YuvPicture, alpha: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Return the settled matte in [0, 255], each step as its formula says it."""
    band = find_band(alpha)
    model = fit_colours(small.astype(np.float32) / np.float32(255), alpha, band)
    model = model.astype(np.float64) @ np.column_stack([frame.to_rgb.T, (0, 0, 0, 1)]).T
    fade = cv2.blur(band.astype(np.float64), (3, 3))
    model[..., 3] -= alpha
    model *= fade[..., None]
    full, half = frame.size[::-1], frame.chroma[0].shape[::-1]
    shared = sum(
        cv2.resize(model[..., n], half) * plane for n, plane in enumerate(frame.chroma, start=1)
    )
    refined = cv2.resize(model[..., 0], full) * frame.luma + cv2.resize(shared, full)
    refined += cv2.resize(model[..., 3] + alpha, full)
    return settle_ends(np.clip(refined, 0, 1).astype(np.float32)) * 255


@pytest.mark.parametrize("size", [(192, 128), (320, 180), (150, 250)])
@pytest.mark.parametrize("softness", [1, 8, 24])
def test_matte_is_that_in_floats_within_one_level(size, softness):
    frame = make_frame(*size)
    alpha = make_matte(size[1] // 2, size[0] // 2, softness)
    small = cv2.resize(picture(0, size), alpha.shape[::-1], interpolation=cv2.INTER_AREA)
    found = refine_planes((frame.luma, *frame.chroma), frame.to_rgb, alpha, small)
    expected = refine_in_floats(frame, alpha, small)
    assert found.dtype == np.uint8 and found.shape == frame.size
    assert np.abs(found - expected).max() <= GREATEST_DIFFERENCE
    assert {0, 255} <= set(np.unique(found))


@pytest.mark.parametrize("value", [0, 1])
def test_matte_without_an_edge_stays_as_it_is(value):
    frame = make_frame(64, 48)
    alpha = np.full((24, 32), value, np.float32)
    samples = frame.luma, *frame.chroma
    found = refine_planes(samples, frame.to_rgb, alpha, frame.shrink((24, 32)))
    np.testing.assert_array_equal(found, np.full((48, 64), value * 255, np.uint8))


def test_frame_as_small_as_its_matte_gets_it_settled():
    frame, alpha = make_frame(64, 48), make_matte(48, 64, 30)
    found = refine_planes((frame.luma, *frame.chroma), frame.to_rgb, alpha, frame.rgb)
    expected = settle_ends(resize_alpha(alpha, 48, 64)) * 255
    assert np.abs(found - expected).max() <= GREATEST_DIFFERENCE


@pytest.mark.parametrize("size", [(640, 360), (320, 320), (250, 190)])
@pytest.mark.parametrize("matte", [(64, 96), (80, 144), (45, 70)])
@pytest.mark.parametrize("center", [(0.5, 0.5), (0.1, 0.9), (1.0, 0.3)])
def test_part_around_the_edges_is_that_of_the_whole(size, matte, center):
    """Whatever the ratio of the sides, and wherever the person is."""
    frame = make_frame(*size)
    y, x = np.mgrid[: matte[0], : matte[1]]
    distance = np.hypot(x - center[0] * matte[1], y - center[1] * matte[0])
    alpha = np.clip((matte[0] / 5 - distance) / 4 + 0.5, 0, 1).astype(np.float32)
    small = frame.shrink(matte)
    found = refine_planes((frame.luma, *frame.chroma), frame.to_rgb, alpha, small)
    expected = refine_in_floats(frame, alpha, small)
    assert np.abs(found - expected).max() <= GREATEST_DIFFERENCE + 1e-3  # of float32


@pytest.mark.parametrize(
    ("stretch", "sides", "expected"),
    [
        ((100, 50), (320, 720), ((96, 152), (216, 342))),
        ((0, 320), (320, 720), ((0, 320), (0, 720))),
        ((300, 20), (320, 720), ((296, 320), (666, 720))),
        ((10, 5), (64, 128), ((8, 17), (16, 34))),
        ((10, 5), (97, 250), ((0, 97), (0, 250))),
        ((10, 5), (64, 64), ((8, 18), (8, 18))),
    ],
)
def test_part_begins_and_ends_with_whole_pixels(stretch, sides, expected):
    found = choose_part(*stretch, *sides)
    assert tuple((part.start, part.stop) for part in found) == expected
