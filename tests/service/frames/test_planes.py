"""Composites of frames in planes, against those in RGB."""

import cv2
import numpy as np
import pytest

from service.frames.render import Renderer, RenderOptions
from service.frames.segment import MattedFrame
from service.matting.composite import Blur
from service.media.colour.planes import YuvPicture
from service.media.video.types import VideoFrame
from service.media.video.writing.yuv import YuvConverter
from tests.clips import picture

SIZE = 192, 128  # width and height


def to_planes(image: np.ndarray) -> YuvPicture:
    frame = YuvConverter(image.shape[1], image.shape[0], "yuv420p", 1).convert(image)
    return YuvPicture(frame.to_ndarray(), 1)


@pytest.fixture(scope="module")
def matted() -> MattedFrame:
    """A frame of the portrait in planes with a soft disc as its matte."""
    planes = to_planes(picture(0, SIZE))
    y, x = np.mgrid[:64, :96]
    alpha = np.clip((24 - np.hypot(x - 48, y - 32)) / 6 + 0.5, 0, 1).astype(np.float32)
    return MattedFrame(VideoFrame(0, 1, planes), planes.shrink((64, 96)), alpha)


def render(matted: MattedFrame, **options):
    return Renderer(RenderOptions(**options), SIZE[1], SIZE[0]).render(matted)


@pytest.mark.parametrize("estimates", [True, False])
@pytest.mark.parametrize("background", [(255, 255, 255), (0, 60, 200), "picture"])
def test_composite_in_planes_is_that_in_rgb(matted: MattedFrame, background, estimates) -> None:
    if background == "picture":
        background = cv2.GaussianBlur(picture(40, SIZE)[::-1].copy(), (0, 0), 2)
    rendered = render(matted, background=background, estimates_foreground=estimates)
    drawn = rendered.draw("composite")
    assert isinstance(drawn, YuvPicture) and drawn.matrix == 1
    reference = to_planes(rendered.composite)
    mixed = (rendered.grey > 0) & (rendered.grey < 255)
    luma = np.abs(drawn.luma.astype(int) - reference.luma)
    assert luma.mean() < 0.3 and luma[mixed].mean() < 1.2 and luma.max() <= 20
    for found, expected in zip(drawn.chroma, reference.chroma, strict=True):
        chroma = np.abs(found.astype(int) - expected)
        assert chroma.mean() < 0.5 and chroma.max() <= 20


def test_what_alpha_decides_is_not_converted(matted: MattedFrame) -> None:
    rendered = render(matted, background=(255, 255, 255))
    drawn, planes = rendered.draw("composite"), matted.frame.planes
    np.testing.assert_array_equal(
        drawn.luma[rendered.grey == 255], planes.luma[rendered.grey == 255]
    )
    assert set(drawn.luma[rendered.grey == 0]) == {235}


@pytest.mark.parametrize(
    "options",
    [{"background": Blur(8)}, {"shadow": "soft"}, {"cleanup": {"feather": 2.0}}],
    ids=["blur", "shadow", "cleanup"],
)
def test_other_composites_are_drawn_in_rgb(matted: MattedFrame, options: dict) -> None:
    rendered = render(matted, **options)
    assert rendered.draw("composite") is rendered.composite


def test_frame_in_rgb_is_drawn_in_rgb(matted: MattedFrame) -> None:
    frame = VideoFrame(0, 1, matted.frame.image)
    rendered = render(MattedFrame(frame, matted.network_image, matted.alpha))
    assert rendered.draw("composite") is rendered.composite
    np.testing.assert_array_equal(rendered.draw("grey"), rendered.grey)


def test_frame_is_refined_as_it_is_in_rgb(matted: MattedFrame) -> None:
    frame = VideoFrame(0, 1, matted.frame.image)
    in_rgb = render(MattedFrame(frame, matted.network_image, matted.alpha)).alpha
    plain = render(matted, refines=False).alpha
    difference = np.abs(render(matted).alpha - in_rgb)
    assert difference.mean() < 0.08 * np.abs(plain - in_rgb).mean() and difference.max() < 0.1
