import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.inference.engine import OnnxEngine
from service.inference.preprocessing import choose_size, make_tensor, normalise
from service.matting.resize import halve, resize_alpha, resize_image
from service.settings import Settings

SIDE = st.integers(1, 20_000)
REF_SIZE = st.integers(2, 32).map(lambda n: n * 32)
AREA_MP = st.floats(0.05, 3)


@pytest.fixture(scope="module")
def fast() -> OnnxEngine:
    return OnnxEngine(Settings(device="cpu", precision="fp32"))


@given(SIDE, SIDE, REF_SIZE, AREA_MP)
def test_network_size_is_bounded_and_on_the_grid(height, width, ref_size, area_mp):
    size = choose_size(height, width, ref_size=ref_size, stride=32, max_megapixels=area_mp)
    assert all(side % 32 == 0 and side >= 32 for side in size)
    assert size[0] * size[1] <= area_mp * 1e6


@given(SIDE, SIDE, REF_SIZE)
def test_network_size_turns_with_the_picture(height, width, ref_size):
    more = {"ref_size": ref_size, "stride": 32, "max_megapixels": 1.5}
    size = choose_size(height, width, **more)
    if height != width:
        assert choose_size(width, height, **more) == size[::-1]


@given(st.integers(100, 4000), st.floats(1, 4), REF_SIZE)
def test_ratio_is_kept_within_the_grid(short, ratio, ref_size):
    """Each side is at most one half step from where the exact ratio would put it."""
    height, width = short, round(short * ratio)
    assume(ref_size * ref_size * width / height < 1.4e6)
    size = choose_size(height, width, ref_size=ref_size, stride=32, max_megapixels=1.5)
    assert size[0] == ref_size
    assert abs(size[1] - ref_size * width / height) <= 16


@pytest.mark.parametrize(
    "picture, size",
    [
        ((512, 512), (512, 512)),
        ((1080, 1920), (512, 896)),
        ((1920, 1080), (896, 512)),
        ((1, 1), (512, 512)),
        ((600, 10), (2048, 32)),  # enlarged to four times ref_size and no further
        ((10, 600), (32, 2048)),
        ((1, 50), (32, 2048)),
        ((3000, 2), (3008, 32)),  # longer than that already
        ((1, 16_384), (32, 16_384)),
        ((100, 400), (512, 2048)),
    ],
)
def test_network_size_of_known_pictures(picture, size):
    assert choose_size(*picture, ref_size=512, stride=32, max_megapixels=1.5) == size


def test_tensor_has_the_values_of_the_paper():
    image = np.zeros((32, 64, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 0, 255, 51
    tensor = make_tensor(image, (32, 64), mean=0.5, std=0.5)
    assert tensor.shape == (3, 32, 64) and tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    for plane, value in zip(tensor, (-1, 1, -0.6), strict=True):
        np.testing.assert_allclose(plane, value, atol=1e-6)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_tensor_of_any_picture_stays_in_range(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    tensor = make_tensor(image, (32, 64), mean=0.5, std=0.5)
    assert tensor.shape == (3, 32, 64)
    assert -1 - 1e-6 <= tensor.min() and tensor.max() <= 1 + 1e-6


def test_shrinking_averages_the_picture():
    """Picking pixels instead would alias hair away."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 255
    tensor = make_tensor(image, (32, 32), mean=0.5, std=0.5)
    np.testing.assert_allclose(tensor, 0, atol=0.01)


@pytest.mark.parametrize(
    "shape", [(1440, 1440), (1301, 1951), (2400, 3600), (1200, 1500), (4001, 5003)]
)
def test_matte_of_a_picture_in_halves_is_that_of_fair_area_averaging(portrait, fast, shape):
    """Filters differ by a level or two; the network must not care."""
    image = np.asarray(cv2.resize(portrait, shape[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    size = (320, 320 * shape[1] // shape[0] // 32 * 32)
    fair = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    ours = resize_image(image, size)
    assert np.abs(ours.astype(np.float32) - fair).mean() < 1.5
    mattes = [fast.run(normalise(one, fast.info)[np.newaxis])[0] for one in (ours, fair)]
    assert np.abs(mattes[0] - mattes[1]).mean() < 0.003


def test_only_sides_that_are_too_long_are_halved():
    image = np.arange(12 * 100, dtype=np.uint8).reshape(12, 100)
    assert halve(image, (6, 25)).shape == (12, 50)
    assert halve(image, (5, 20)).shape == (6, 25)
    assert halve(image, (20, 50)) is image


def test_tensor_does_not_touch_the_picture(portrait):
    make_tensor(portrait, (512, 512), mean=0.5, std=0.5)  # it is read-only
    make_tensor(portrait, (320, 320), mean=0.5, std=0.5)


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_resized_alpha_stays_in_range(size, target, seed):
    alpha = np.random.default_rng(seed).random(size, np.float32).round()
    resized = resize_alpha(alpha, *target)
    assert resized.shape == target and resized.dtype == np.float32
    assert resized.min() >= 0 and resized.max() <= 1


def test_grown_alpha_has_no_blocks():
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    resized = resize_alpha(ramp, 320, 320)
    assert np.abs(np.diff(resized, axis=1)).max() < 1 / 31 / 5


def test_alpha_of_the_right_size_is_not_copied():
    alpha = np.zeros((8, 9), np.float32)
    assert resize_alpha(alpha, 8, 9) is alpha
