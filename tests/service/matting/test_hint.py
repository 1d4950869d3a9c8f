"""Strokes and regions of interest, as arrays."""

import numpy as np
import pytest

from service.matting.crop import Box
from service.matting.hint import (
    Region,
    apply_hint,
    embed_matte,
    make_hint,
    parse_roi,
    read_strokes,
)


def test_strokes_keep_remove_and_leave_alone() -> None:
    alpha = np.full((1, 6), 0.4, np.float32)
    hint = np.uint8([[0, 64, 127, 128, 192, 255]])
    changed = apply_hint(alpha, hint)
    assert changed.dtype == np.float32
    assert changed[0] == pytest.approx([0, 0.4, 0.4, 0.4, 0.5, 1])
    assert apply_hint(np.ones((1, 2), np.float32), np.uint8([[0, 64]]))[0].tolist() == [0, 0.5]


def test_transparent_strokes_say_nothing() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    assert read_strokes(image, np.uint8([[0, 255, 128]]))[0].tolist() == [128, 0, 64]
    assert read_strokes(image, None)[0].tolist() == [0, 0, 0]


def test_outside_of_the_roi_is_removed_over_all_strokes() -> None:
    strokes = np.full((4, 6), 255, np.uint8)
    hint = make_hint((4, 6), Box(1, 1, 3, 2), strokes)
    assert (hint[1:3, 1:4] == 255).all() and hint.sum() == 255 * 6
    assert (make_hint((4, 6), Box(1, 1, 3, 2), None)[1:3, 1:4] == 128).all()


@pytest.mark.parametrize("size", [(10, 12), (40, 48), (160, 192)], ids=["less", "same", "more"])
def test_matte_of_a_part_lies_where_the_part_is(size: tuple[int, int]) -> None:
    """A ramp over the part is the same ramp in the whole, at any resolution of the matte."""
    height, width = size
    ramp = np.tile((np.arange(width, dtype=np.float32) + 0.5) / width, (height, 1))
    whole = embed_matte(ramp, Box(30, 20, 48, 40), (100, 200))
    scale = whole.shape[1] / 200
    assert whole.shape[0] == pytest.approx(100 * scale, abs=1) and scale <= 1
    columns = (np.arange(whole.shape[1]) + 0.5) / scale
    inside = (columns > 32) & (columns < 76)
    row = whole[round(40 * scale)]
    assert np.abs(row[inside] - (columns[inside] - 30) / 48).max() < 0.03
    assert not whole[: int(20 * scale)].any() and not row[columns > 80].any()


def test_roi_is_read_from_text() -> None:
    assert parse_roi("120, 0,640,480") == Region(120, 0, 640, 480)
    assert parse_roi("12.5%, 0%,50%,100%") == Region(12.5, 0, 50, 100, is_percent=True)
    odd = ("1,2,3", "1,2,0,4", "-1,2,3,4", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4")
    for text in (*odd, "10%,20,30%,40", "1%,2%,0%,4%", "0%,0%,1.23456%,1%"):
        with pytest.raises(ValueError, match="left,top,width,height"):
            parse_roi(text)


def test_roi_of_a_picture_is_a_box_in_it() -> None:
    assert Region(120, 0, 640, 480).find_box((480, 760)) == Box(120, 0, 640, 480)
    with pytest.raises(ValueError, match="ends at 760, 480, the picture at 759, 480"):
        Region(120, 0, 640, 480).find_box((480, 759))


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ((0, 0, 100, 100), (0, 0, 101, 57)),
        ((50, 50, 50, 50), (50, 28, 51, 29)),
        ((33.3, 33.3, 66.7, 66.7), (34, 19, 67, 38)),
        ((99.9, 99.9, 0.1, 0.1), (100, 56, 1, 1)),
        ((0, 0, 0.1, 0.1), (0, 0, 1, 1)),
    ],
)
def test_roi_in_percent_has_its_sides_at_whole_pixels(region: tuple, box: tuple) -> None:
    assert Region(*region, is_percent=True).find_box((57, 101, 3)) == Box(*box)


def test_roi_in_percent_that_ends_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="ends at 110 %, 80 %, the picture at 100 %"):
        Region(60, 30, 50, 50, is_percent=True).find_box((57, 101))
