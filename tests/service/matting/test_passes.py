"""Two passes over a photo: what is the person by the small one, the outline by the large one."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.inference.photos import prepare_passes
from service.inference.preprocessing import prepare_input
from service.matting.passes import join_passes
from tests.conftest import open_client
from tests.fakes import FAKE_INFO, FakeEngine
from tests.helpers import encode
from training.evaluation import predictor


def draw_disc(side: int, radius: float, blur: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side - 0.5
    disc = np.float32(np.hypot(x, y) < radius)
    return cv2.GaussianBlur(disc, (0, 0), blur) if blur else disc


def test_outline_is_the_large_ones() -> None:
    large = draw_disc(384, 0.3, 1.0)
    small = draw_disc(256, 0.3, 6.0)
    joined = join_passes(small, large)
    assert joined.shape == large.shape and joined.dtype == np.float32
    as_large = np.abs(cv2.resize(small, (384, 384)) - large).mean()
    assert np.abs(joined - large).mean() < as_large / 4


def test_parts_that_only_the_small_one_sees_are_there() -> None:
    small, large = draw_disc(256, 0.3, 2.0), draw_disc(384, 0.3, 2.0)
    large[150:230, 150:230] = 0.2  # a hole
    assert join_passes(small, large)[170:210, 170:210].min() > 0.8


def test_mattes_that_agree_stay() -> None:
    for value in (0.0, 1.0):
        flat = np.full((64, 96), value, np.float32)
        assert (
            np.abs(join_passes(flat, np.full((96, 160), value, np.float32)) - value).max() < 0.001
        )


def test_joined_as_it_is_measured() -> None:
    random = np.random.default_rng(0)
    small, large = random.random((64, 96), np.float32), random.random((96, 160), np.float32)
    measured = predictor.join_passes(small, large)
    np.testing.assert_allclose(join_passes(small, large), measured, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "options", "seen"),
    [
        ((192, 96), {}, [(64, 128), (96, 192)]),
        ((192, 96), {"roi": "0%,0%,50%,100%"}, [(64, 64), (96, 96)]),
        ((192, 96), {"ref_size": 128}, [(128, 256)]),
        ((96, 48), {}, [(96, 192)]),  # too small to show more at the larger size
    ],
)
def test_photo_passes_twice(size: tuple[int, int], options: dict, seen: list) -> None:
    engine = FakeEngine()
    engine.info = replace(engine.info, ref_size=96, photo_ref_sizes=(64, 96))
    photo = encode(np.zeros((size[1], size[0], 3), np.uint8), "PNG")
    with open_client(engine) as client:
        answer = client.post("/v1/image", files={"file": photo}, data=options)
        assert answer.status_code == 200, answer.text
        (model,) = client.get("/v1/models").json()["models"]
    assert [shape[2:] for shape in engine.shapes] == seen
    assert model["photo_ref_sizes"] == [64, 96]


@pytest.mark.parametrize("size", [(512, 512), (301, 455), (80, 120), (1400, 1050)])
def test_each_pass_gets_what_it_would_get_alone(portrait: np.ndarray, size: tuple) -> None:
    """The large input and the small one begin with the same halves of the photo."""
    info = replace(FAKE_INFO, photo_ref_sizes=(64, 96))
    photo = cv2.resize(portrait, size[::-1])
    passes = prepare_passes(photo, info, 1.5)
    assert len(passes) == 2
    for (tensor, seen), ref_size in zip(passes, (64, 96), strict=True):
        alone, picture = prepare_input(photo, info, ref_size, 1.5)
        np.testing.assert_array_equal(tensor, alone)
        np.testing.assert_array_equal(seen, picture)
