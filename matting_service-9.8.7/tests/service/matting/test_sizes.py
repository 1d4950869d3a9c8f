import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.matting.sizes import PREVIEW_MEGAPIXELS, check_size, fit_size

SIDE = st.integers(1, 20_000)


@pytest.mark.parametrize(
    "picture, size, result",
    [
        ((4000, 3000), "full", (4000, 3000)),
        ((4000, 3000), "800x600", (800, 600)),
        ((4000, 3000), "800x800", (800, 600)),
        ((3000, 4000), "800x800", (600, 800)),
        ((4000, 3000), "9000x9000", (4000, 3000)),
        ((4000, 3000), "3MP", (2000, 1500)),
        ((4000, 3000), "12MP", (4000, 3000)),
        ((4000, 3000), "40MP", (4000, 3000)),
        ((500, 500), "preview", (500, 500)),
        ((1000, 1000), "preview", (500, 500)),
        ((10_000, 1), "100x100", (100, 1)),
        ((1, 20_000), "0.0001MP", (1, 100)),  # a side that stays at one
        ((20_000, 1), "0.0001MP", (100, 1)),
        ((1, 1), "preview", (1, 1)),
    ],
)
def test_known_sizes(picture, size, result):
    assert fit_size(*picture, size) == result


@given(SIDE, SIDE, st.integers(1, 10_000_000).map(lambda n: n / 10_000))
def test_area_is_never_passed_and_nearly_reached(width, height, megapixels):
    size = f"{megapixels:.4f}".rstrip("0").rstrip(".") + "MP"
    found = fit_size(width, height, size)
    limit = megapixels * 1e6
    assert 1 <= found[0] <= width and 1 <= found[1] <= height
    assert found[0] * found[1] <= max(round(limit), 1)
    if width * height > limit:
        # Whole pixels lose at most one on each side.
        assert (found[0] + 1) * (found[1] + 1) >= limit * 0.999
    else:
        assert found == (width, height)


@given(SIDE, SIDE, st.integers(1, 5000), st.integers(1, 5000))
def test_box_holds_the_result_and_the_ratio_is_kept(width, height, box_width, box_height):
    found = fit_size(width, height, f"{box_width}x{box_height}")
    assert 1 <= found[0] <= min(width, box_width) and 1 <= found[1] <= min(height, box_height)
    scale = min(1, box_width / width, box_height / height)
    for side, full in zip(found, (width, height), strict=True):
        assert side == 1 or abs(side - full * scale) <= 0.5


@given(SIDE, SIDE)
def test_preview_is_small(width, height):
    found = fit_size(width, height, "preview")
    assert found[0] * found[1] <= PREVIEW_MEGAPIXELS * 1e6
    assert fit_size(height, width, "preview") == found[::-1]


@pytest.mark.parametrize(
    "text",
    ["", "Full", "0x5", "5x0", "100001x5", "5", "0MP", "0.0MP", "MP", "1mp", "-1MP", "1e3MP"]
    + ["1.MP", "99999MP", "8x8x8", " 8x8", "8x8\n", "٣x٣", "inf"],
)
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError, match="must be full"):
        check_size(text)


def test_known_sizes_are_let_through():
    for text in ("full", "preview", "800x600", "4MP", "0.25MP"):
        assert check_size(text) == text
