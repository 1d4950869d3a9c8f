"""Backgrounds of clips whose pixels are not square: in front, behind, or both."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from tests.clips import make_clip, picture
from tests.conftest import open_client
from tests.fakes import FakeEngine
from tests.helpers import encode
from tests.videos import Clip, post

SHOWN = 192, 64  # width and height of all clips and pictures here, in square pixels
SHAPES = {1: (192, 64), 2: (96, 64), Fraction(1, 2): (192, 32)}


@pytest.fixture(scope="module")
def nobody() -> Iterator[httpx.Client]:
    """A service that sees nobody: composites are the background."""
    with open_client(FakeEngine(lambda batch: np.zeros_like(batch[:, 0]))) as client:
        yield client


def make(path: Path, shape: Fraction | int, **more) -> bytes:
    """Return a clip whose pixels are `shape` times as wide as high."""
    made = make_clip(
        path,
        seconds=0.2,
        fps=10,
        size=SHAPES[shape],
        tone=False,
        sample_aspect_ratio=Fraction(shape),
        **more,
    )
    return made.read_bytes()


def show(image: np.ndarray) -> np.ndarray:
    """Return a picture as a player shows it."""
    return cv2.resize(image, SHOWN, interpolation=cv2.INTER_LINEAR).astype(int)


@pytest.mark.parametrize("shape", SHAPES)
def test_picture_behind_narrow_or_wide_pixels_keeps_its_shape(nobody, tmp_path, shape) -> None:
    photo = picture(0, SHOWN)
    clip = make(tmp_path / "front.mp4", shape, color=(200, 0, 0))
    answer = post(nobody, clip, {"background_file": encode(photo, "PNG")}, crf=4)
    assert answer.status_code == 200, answer.text
    for image in Clip(answer.content).images:
        assert image.shape[1::-1] == SHAPES[shape]
        assert np.abs(show(image) - photo).mean() < 9


@pytest.mark.parametrize("front", SHAPES)
@pytest.mark.parametrize("behind", SHAPES)
def test_clip_behind_a_clip_keeps_its_shape(nobody, tmp_path, front, behind) -> None:
    background = make(tmp_path / "behind.mp4", behind)
    clip = make(tmp_path / "front.mp4", front, color=(200, 0, 0))
    answer = post(nobody, clip, {"background_file": background}, crf=4)
    assert answer.status_code == 200, answer.text
    wanted = show(Clip(background).images[0])
    assert np.abs(show(Clip(answer.content).images[0]) - wanted).mean() < 9
