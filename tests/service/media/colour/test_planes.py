import cv2
import numpy as np
import pytest

from service.media.colour.planes import SWS_MATRIX, YuvPicture, to_planes
from service.media.video.writing.yuv import YuvConverter
from tests.clips import picture

SIZE = 192, 108  # width and height


def convert(image: np.ndarray, matrix: int) -> YuvPicture:
    height, width = image.shape[:2]
    frame = YuvConverter(width, height, "yuv420p", matrix).convert(image)
    return YuvPicture(frame.to_ndarray(), matrix)


@pytest.mark.parametrize("matrix", SWS_MATRIX)
def test_samples_and_colours_are_each_others_inverse(matrix: int) -> None:
    image = cv2.GaussianBlur(picture(0, SIZE), (0, 0), 2)
    planes = convert(image, matrix)
    assert planes.size == planes.luma.shape == (108, 192)
    samples = planes.convert(image)
    assert np.abs(samples[..., 0].astype(int) - planes.luma).max() <= 1
    back = cv2.transform(samples.astype(np.float32), planes.to_rgb) * 255
    np.testing.assert_allclose(back, image, atol=2.5)


@pytest.mark.parametrize("height", [108, 106])
def test_planes_become_the_colours_they_were_made_of(height: int) -> None:
    image = cv2.GaussianBlur(picture(0, (192, height)), (0, 0), 2)
    planes = convert(image, 1)
    assert np.abs(planes.rgb.astype(int) - image).mean() < 2
    small = cv2.resize(image, (96, 54), interpolation=cv2.INTER_AREA)
    assert np.abs(planes.shrink((54, 96)).astype(int) - small).mean() < 1.5


@pytest.mark.parametrize("size", [(192, 108), (190, 106), (2, 2)])
def test_planes_of_a_picture_are_those_of_the_converter_and_come_back_from_blocks(
    size: tuple[int, int],
) -> None:
    image = cv2.GaussianBlur(picture(0, size), (0, 0), 2)
    planes = to_planes(image)
    expected = convert(image, planes.matrix)
    assert planes.size == size[::-1]
    assert np.abs(planes.luma.astype(int) - expected.luma).max() <= 1
    for ours, theirs in zip(planes.chroma, expected.chroma, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 2
    blocks = planes.to_blocks()
    assert np.abs(blocks.astype(int) - image).mean() < 2.5
    again = to_planes(blocks)
    assert np.abs(again.planes.astype(int) - planes.planes).max() <= 2


def test_chroma_is_a_view_of_the_planes() -> None:
    planes = YuvPicture(np.full((6, 8), 128, np.uint8), 1)
    cb, cr = planes.chroma
    assert cb.shape == cr.shape == (2, 4)
    cb[:], cr[:] = 90, 240
    red = planes.rgb
    assert (red[..., 0] > 250).all() and (red[..., 2] < 80).all()
