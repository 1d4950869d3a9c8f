"""What the network sees of clips whose pixels are not square: people as they are shown."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import make_clip
from tests.conftest import open_client
from tests.fakes import FakeEngine
from tests.videos import post, read_cutouts

SIZES = {1: (192, 96), 2: (96, 96), Fraction(1, 2): (192, 48), Fraction(16, 11): (132, 96)}
HALVES = {"roi": "0%,0%,50%,100%"}


def find_shapes(path: Path, shape: Fraction | int, **options) -> set[tuple[int, ...]]:
    """Return the shapes of the network's inputs, of clips that are all shown at 192 x 96."""
    aspect = Fraction(shape)
    clip = make_clip(path, seconds=0.2, size=SIZES[shape], tone=False, sample_aspect_ratio=aspect)
    engine = FakeEngine()
    with open_client(engine) as client:
        answer = post(client, clip.read_bytes(), **options)
    assert answer.status_code == 200, answer.text
    return {batch[1:] for batch in engine.shapes}


@pytest.mark.parametrize("options", [{}, HALVES, {"outputs": "frames"}])
@pytest.mark.parametrize("shape", [2, Fraction(1, 2), Fraction(16, 11)])
def test_network_sees_pixels_as_they_are_shown(tmp_path: Path, shape, options: dict) -> None:
    square = find_shapes(tmp_path / "square.mp4", 1, **options)
    assert find_shapes(tmp_path / "other.mp4", shape, **options) == square
    ((_, height, width),) = square
    assert width == pytest.approx(height if options == HALVES else 2 * height, abs=32)


def test_matte_of_other_pixels_has_the_size_of_the_frame(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "a.mp4", seconds=0.1, size=(96, 96), tone=False, sample_aspect_ratio=Fraction(2)
    )

    def see_the_left(batch: np.ndarray) -> np.ndarray:
        alpha = np.zeros_like(batch[:, 0])
        alpha[:, :, : batch.shape[3] // 2] = 1
        return alpha

    with open_client(FakeEngine(see_the_left)) as client:
        answer = post(client, clip.read_bytes(), outputs="frames", refine="off")
    for image in read_cutouts(answer.content):
        assert image.shape == (96, 192, 4)
        assert image[:, :90, 3].min() == 255 and image[:, 102:, 3].max() == 0
