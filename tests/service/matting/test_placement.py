import numpy as np
import pytest

from service.matting.crop import Box, find_subject
from service.matting.placement import (
    Placement,
    parse_placement,
    parse_position,
    parse_scale,
    place_person,
)

BOX = Box(left=30, top=20, width=40, height=60)
INSIDE = np.s_[20:80, 30:70]


@pytest.fixture
def person() -> tuple[np.ndarray, np.ndarray]:
    """Noise on a black ground, wholly opaque; the ground must never show."""
    colour = np.zeros((100, 200, 3), np.uint8)
    colour[INSIDE] = np.random.default_rng(5).integers(120, 256, (60, 40, 3))
    alpha = np.zeros((100, 200), np.float32)
    alpha[INSIDE] = 1
    return colour, alpha


@pytest.mark.parametrize(
    "position, left, top",
    [((0, 0), 0, 0), ((1, 1), 160, 40), ((0.5, 0.5), 80, 20), ((0.25, 1), 40, 40), (None, 30, 20)],
)
def test_moved_person_has_the_same_pixels(person, position, left: int, top: int) -> None:
    colour, alpha = person
    moved, placed = place_person(colour, alpha, BOX, Placement(None, position))
    assert find_subject(placed) == Box(left, top, 40, 60)
    there = np.s_[top : top + 60, left : left + 40]
    np.testing.assert_array_equal(moved[there], colour[INSIDE])
    np.testing.assert_allclose(placed[there], 1, atol=1e-6)
    placed[there] = 0
    assert not placed.any()


@pytest.mark.parametrize("scale", [0.1, 0.35, 0.6, 0.9, 1.0])
def test_scaled_person_fits_into_that_part(person, scale: float) -> None:
    colour, alpha = person
    moved, placed = place_person(colour, alpha, BOX, Placement(scale, (0.5, 0.5)))
    assert moved.shape == colour.shape and placed.shape == alpha.shape
    box = find_subject(placed)
    assert box is not None
    # The box is higher than wide, on a canvas that is wider than high: the height decides.
    assert box.height == pytest.approx(100 * scale, abs=1.01)
    assert box.width == pytest.approx(100 * scale * 40 / 60, abs=1.01)
    assert box.left + box.width / 2 == pytest.approx(100, abs=1.01)
    assert box.top + box.height / 2 == pytest.approx(50, abs=1.01)
    assert moved[placed > 0.01].min() >= 110, "no rim of the black ground"


def test_scaled_person_without_a_position_stays_about_its_centre(person) -> None:
    _, placed = place_person(*person, BOX, Placement(0.3, None))
    box = find_subject(placed)
    assert box is not None
    assert box.left + box.width / 2 == pytest.approx(50, abs=1)
    assert box.top + box.height / 2 == pytest.approx(50, abs=1)


def test_tiny_person_enlarged_to_all_of_a_large_canvas_takes_no_more_than_the_canvas() -> None:
    alpha = np.zeros((1500, 1500), np.float32)
    alpha[700:702, 700:702] = 1
    colour = np.full((1500, 1500, 3), 80, np.uint8)
    moved, placed = place_person(colour, alpha, Box(700, 700, 2, 2), Placement(1.0, (0.5, 0.5)))
    assert placed.shape == (1500, 1500) and placed[700, 700] == pytest.approx(1, abs=1e-3)
    assert moved[700, 700].tolist() == [80, 80, 80]


def test_options_are_read() -> None:
    assert parse_placement("original", "auto") is parse_placement("original", "original") is None
    assert parse_placement("50%", "auto") == Placement(0.5, (0.5, 0.5))
    assert parse_placement("50%", "original") == Placement(0.5, None)
    assert parse_placement("original", "0% 100%") == Placement(None, (0.0, 1.0))
    assert parse_position("25%") == (0.25, 0.25)


@pytest.mark.parametrize("text", ["", "9%", "101%", "50", "0.5", "50%50%", "-20%", "٥٠%"])
def test_other_scales_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="10% to 100%"):
        parse_scale(text)


@pytest.mark.parametrize("text", ["", "left", "50", "101%", "1% 2% 3%", "50%,50%"])
def test_other_positions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="center"):
        parse_position(text)
