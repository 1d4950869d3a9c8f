import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.matting.crop import Box, Length, Margin, expand_box, find_subject, parse_margin


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 20)])
def test_full_matte_is_the_whole_picture_and_an_empty_one_is_nobody(shape):
    assert find_subject(np.ones(shape, np.float32)) == Box(0, 0, shape[1], shape[0])
    assert find_subject(np.zeros(shape, np.float32)) is None


def test_half_is_not_the_person_yet():
    assert find_subject(np.full((4, 4), 0.5, np.float32)) is None


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_box_is_the_smallest_around_the_solid_pixels(height, width, seed):
    alpha = np.random.default_rng(seed).random((height, width), np.float32)
    alpha[alpha < 0.8] *= 0.5
    box = find_subject(alpha)
    rows, columns = np.nonzero(alpha > 0.5)
    if not len(rows):
        assert box is None
        return
    assert box is not None
    assert (box.left, box.top) == (columns.min(), rows.min())
    assert (box.left + box.width - 1, box.top + box.height - 1) == (columns.max(), rows.max())
    assert all(type(value) is int for value in vars(box).values())  # they go into JSON


PX, PERCENT = Length(10), Length(5, is_percent=True)


@pytest.mark.parametrize(
    "text, margin",
    [
        ("10", Margin(PX, PX, PX, PX)),
        ("10px", Margin(PX, PX, PX, PX)),
        ("5%", Margin(PERCENT, PERCENT, PERCENT, PERCENT)),
        ("10 5%", Margin(PX, PERCENT, PX, PERCENT)),
        (" 1  2px 3% 4.5 ", Margin(Length(1), Length(2), Length(3, True), Length(4.5))),
    ],
)
def test_margins_are_read_as_in_css(text, margin):
    assert parse_margin(text) == margin


@pytest.mark.parametrize(
    "text", ["", " ", "1 2 3", "1 2 3 4 5", "-1", "1e3", "1em", "1 x", "٣", "5 %", "1.", "9999999"]
)
def test_other_margins_are_refused(text):
    with pytest.raises(ValueError, match="must be pixels"):
        parse_margin(text)


def test_percents_are_of_the_box():
    assert expand_box(Box(100, 200, 40, 80), parse_margin("10% 50%"), (1000, 1000)) == Box(
        80, 192, 80, 96
    )


def test_four_margins_go_clockwise_from_the_top():
    assert expand_box(Box(50, 50, 10, 10), parse_margin("1 2 3 4"), (100, 100)) == Box(
        46, 49, 16, 14
    )


@given(st.data(), st.integers(1, 50), st.integers(1, 50))
def test_expanded_box_holds_the_box_and_stays_in_the_picture(data, height, width):
    left = data.draw(st.integers(0, width - 1))
    top = data.draw(st.integers(0, height - 1))
    box = Box(
        left,
        top,
        data.draw(st.integers(1, width - left)),
        data.draw(st.integers(1, height - top)),
    )
    length = st.builds(Length, st.floats(0, 999_999), st.booleans())
    grown = expand_box(box, data.draw(st.builds(Margin, *[length] * 4)), (height, width))
    assert 0 <= grown.left <= left and 0 <= grown.top <= top
    assert left + box.width <= grown.left + grown.width <= width
    assert top + box.height <= grown.top + grown.height <= height
