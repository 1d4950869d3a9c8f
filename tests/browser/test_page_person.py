"""The person of a photo: looked for in a box, moved and scaled on the page."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.start_page import (
    WAIT_MS,
    choose_background,
    open_start_page,
    pick,
    read_download,
    read_pixels,
)

SIZE = 64, 64  # at which canvases are looked at; the portrait is square
FACE = (14, 28)  # (row, column)


@pytest.fixture
def page(browser: Browser, live_server):
    with open_start_page(browser, live_server().url) as opened:
        yield opened


def test_person_is_looked_for_in_the_box_that_is_drawn(page: Page, portrait_jpeg: bytes) -> None:
    pick(page, portrait_jpeg)
    with page.expect_response("**/v1/image") as answer:
        page.locator("#region").check()
    assert answer.value.ok
    expect(page.locator("#region-box")).to_be_visible()
    expect(page.locator("#region-pad")).to_have_text("Draw the box here")
    page.locator("#compare").scroll_into_view_if_needed()
    box = page.locator("#region-pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.05, box["y"] + box["height"] * 0.05)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.8, steps=3)
    with page.expect_response("**/v1/image") as answer:
        page.mouse.up()
    assert answer.value.ok
    expect(page.locator("#region-right-value")).to_have_text("50 %")
    expect(page.locator("#region-pad")).to_be_hidden()
    expect(page.locator("#photo-busy")).to_be_hidden(timeout=WAIT_MS)
    seen = read_pixels(page, "#after", *SIZE)[..., 3]
    assert not seen[:, 36:].any() and seen[FACE] > 200, "the right half is gone"
    page.click("#copy-curl")
    assert "roi=5%,5%,45%,75%" in page.locator("#command").inner_text()
    with page.expect_response("**/v1/image"):
        page.locator("#region-right").fill("100")
    expect(page.locator("#photo-busy")).to_be_hidden(timeout=WAIT_MS)
    pick(page, portrait_jpeg, "other.jpg")
    expect(page.locator("#region")).not_to_be_checked()
    page.locator("#compare").click(position={"x": 40, "y": 40})
    assert float(page.locator("#split").input_value()) < 20, "nothing lies over the line any more"


def test_a_tap_draws_no_box(page: Page) -> None:
    page.locator("#region").check()
    expect(page.locator("#photo-busy")).to_be_hidden(timeout=WAIT_MS)
    page.locator("#region-pad").click()
    expect(page.locator("#region-pad")).to_be_visible()
    expect(page.locator("#region-left-value")).to_have_text("10 %")


@pytest.mark.parametrize("kind", ["None", "Colour"])
def test_person_goes_where_it_is_put(page: Page, kind: str, portrait_jpeg: bytes) -> None:
    pick(page, portrait_jpeg)
    asked: list[str] = []
    page.on("request", lambda request: request.url.startswith("blob:") or asked.append(request.url))
    if kind == "Colour":
        choose_background(page, "photo", kind)
        page.get_by_label("Colour #d64550").first.click()
        page.select_option("#photo-shadow", "drop")
    expect(page.locator("#photo-scale")).to_be_hidden()
    before = read_pixels(page, "#after", *SIZE).astype(int)
    page.select_option("#photo-place", label="Lower right")
    page.locator("#photo-scale").fill("40")
    expect(page.locator("#photo-scale-value")).to_have_text("40 %")
    shown = read_pixels(page, "#after", *SIZE).astype(int)
    assert asked == [], "drawn by the browser"
    empty = before[0, 0]
    if kind == "None":
        assert not shown[:36, :, 3].any() and not shown[:, :36, 3].any()
    else:
        assert np.abs(shown[:34, :34] - empty).max() < 12

    _, png = read_download(page, "#save-png")
    with Image.open(io.BytesIO(png)) as saved:
        small = np.asarray(saved.convert("RGBa").resize(SIZE, Image.BOX).convert("RGBA"), int)
    assert np.abs((shown - small)[..., :3] * shown[..., 3:] / 255).mean() < 4
    assert np.abs((shown - small)[..., 3]).mean() < 3
    page.click("#copy-curl")
    command = page.locator("#command").inner_text()
    assert "scale=40%" in command and "position=100% 100%" in command

    page.select_option("#photo-place", label="As taken")
    assert np.array_equal(read_pixels(page, "#after", *SIZE), before)
    page.click("#copy-curl")
    assert "scale" not in page.locator("#command").inner_text()
