"""Photos on the start page: the sample, the ways in, backgrounds, edges, downloads, commands."""

import io
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from tests.helpers import encode, read_metric
from tests.start_page import (
    choose_background,
    expect_matted,
    make_file,
    open_start_page,
    pick,
    read_download,
    read_pixels,
    transfer,
)

JPEG = "image/jpeg"
SIZE = 64, 64  # at which canvases are looked at; the portrait is square
WALL, FACE = (4, 60), (14, 28)  # (row, column)


def count_network_runs(url: str) -> float:
    with httpx.Client(base_url=url, timeout=60) as client:
        name = "matting_stage_duration_seconds_count"
        return read_metric(client, name, stage="inference")


def read_split(page: Page) -> float:
    return float(page.locator("#split").input_value())


def test_first_view_is_a_matted_sample_with_a_slider_for_mouse_and_keys(page: Page) -> None:
    before, after = (read_pixels(page, f"#{name}", 64, 44) for name in ("before", "after"))
    assert before[4, 58, 3] == 255 and after[4, 58, 3] < 20, "the wall is gone"
    assert np.abs(before[14, 28].astype(int) - after[14, 28]).max() < 12, "the face is there"
    expect(page.locator("#drop")).to_be_visible()

    box = page.locator("#compare").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40, steps=4)
    page.mouse.up()
    assert read_split(page) == pytest.approx(25, abs=2)
    width = page.locator("#before").evaluate("e => getComputedStyle(e).clipPath")
    assert f"{100 - read_split(page):g}%" in width, "the photo is cut off at the line"

    page.keyboard.press("ArrowRight")
    assert read_split(page) == pytest.approx(26, abs=2)
    page.keyboard.press("End")
    assert read_split(page) == 100
    assert page.locator("#split").get_attribute("aria-valuetext") == "100 % before"


def test_slider_follows_a_finger(camera_browser: Browser, live_server) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with open_start_page(camera_browser, live_server().url, **phone) as page:
        box = page.locator("#compare").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] * 0.75, box["y"] + 40)
        assert read_split(page) == pytest.approx(75, abs=2)
        scroll_width = page.evaluate("document.documentElement.scrollWidth")
        assert scroll_width <= 390, "nothing sticks out at the side"


def test_photos_come_by_drop_paste_picker_and_camera(page: Page, portrait_jpeg: bytes) -> None:
    files = transfer(page, "drop.jpg", JPEG, portrait_jpeg)
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    expect_matted(page, "drop.jpg")

    pasted = transfer(page, "paste.jpg", JPEG, portrait_jpeg)
    paste = "new ClipboardEvent('paste', {clipboardData: files, bubbles: true})"
    page.evaluate(f"files => document.body.dispatchEvent({paste})", pasted)
    expect_matted(page, "paste.jpg")

    with page.expect_file_chooser() as chooser:
        page.click("#pick")
    chooser.value.set_files(make_file("pick.jpg", JPEG, portrait_jpeg))
    expect_matted(page, "pick.jpg")

    page.click("#camera")
    page.click("#camera-shoot")
    expect_matted(page, "camera.jpg")
    expect(page.locator("#camera-dialog")).to_be_hidden()


def test_page_says_which_of_several_files_it_took(page: Page, portrait_jpeg: bytes) -> None:
    note = page.locator("#drop-note")
    before = note.inner_text()
    files = [make_file(name, JPEG, portrait_jpeg) for name in ("one.jpg", "two.jpg")]
    page.locator("#file").evaluate("input => (input.multiple = true)")
    page.set_input_files("#file", files)
    expect(note).to_contain_text("One at a time: one.jpg was taken.")
    expect_matted(page, "one.jpg")
    page.set_input_files("#file", files[1])
    expect(note).to_have_text(before)


def test_a_photo_that_the_browser_cannot_read_is_shown_all_the_same(
    page: Page, portrait: np.ndarray
) -> None:
    page.set_input_files("#file", make_file("me.tiff", "image/tiff", encode(portrait, "TIFF")))
    expect_matted(page, "me.tiff")
    small = np.asarray(Image.fromarray(portrait).resize(SIZE, Image.BOX), int)
    seen = read_pixels(page, "#before", *SIZE)[..., :3]
    assert np.abs(seen - small).mean() < 6


def test_backgrounds_change_at_once_without_a_request(
    page: Page, portrait: np.ndarray, portrait_jpeg: bytes
) -> None:
    pick(page, portrait_jpeg)
    asked: list[str] = []
    page.on("request", lambda request: request.url.startswith("blob:") or asked.append(request.url))
    assert read_pixels(page, "#after", *SIZE)[WALL][3] < 20, "checkers shine through"

    choose_background(page, "photo", "Colour")
    page.get_by_label("Colour #d64550").first.click()
    seen = read_pixels(page, "#after", *SIZE)
    assert np.abs(seen[WALL].astype(int) - (0xD6, 0x45, 0x50, 255)).max() < 12
    assert np.abs(seen[FACE][:3].astype(int) - portrait[14 * 8 + 4, 28 * 8 + 4]).max() < 60

    choose_background(page, "photo", "Blur")
    page.locator("#photo-blur").fill("8")
    seen = read_pixels(page, "#after", *SIZE)[..., :3].astype(float)
    rough = np.asarray(Image.fromarray(portrait).resize(SIZE, Image.BOX), float)
    corner = np.s_[:12, :12]
    assert seen[corner].std(axis=(0, 1)).max() < rough[corner].std(axis=(0, 1)).max() / 2

    with page.expect_file_chooser() as chooser:
        choose_background(page, "photo", "Picture")
    blue = encode(np.full((20, 60, 3), (20, 40, 200), np.uint8), "PNG")
    chooser.value.set_files(make_file("blue.png", "image/png", blue))
    expect(page.locator("#photo-background")).to_contain_text("blue.png")
    seen = read_pixels(page, "#after", *SIZE)
    assert np.abs(seen[WALL].astype(int) - (20, 40, 200, 255)).max() < 12
    assert asked == []


def test_edges_change_without_a_second_network_run(
    page: Page, live_server, portrait_jpeg: bytes
) -> None:
    pick(page, portrait_jpeg)
    runs = count_network_runs(live_server().url)
    sharp = read_pixels(page, "#after", 128, 128)[..., 3].astype(int)
    for control, value in (("feather", "6"), ("erode", "4")):
        with page.expect_response("**/v1/image/*") as answer:
            page.locator(f"#{control}").fill(value)
        assert answer.value.ok
        expect(page.locator("#photo-caption")).to_contain_text("without the network")
    expect(page.locator("#photo-busy")).to_be_hidden()
    soft = read_pixels(page, "#after", 128, 128)[..., 3].astype(int)
    is_between = [((alpha > 20) & (alpha < 235)).sum() for alpha in (sharp, soft)]
    assert is_between[1] > 1.5 * is_between[0] and soft.sum() < sharp.sum()
    with page.expect_response("**/v1/image/*") as answer:
        page.locator("#refine").uncheck()
    assert answer.value.ok
    assert count_network_runs(live_server().url) == runs


def test_edges_chosen_while_a_photo_is_on_its_way_count_for_it(
    page: Page, portrait_jpeg: bytes
) -> None:
    held: list[Route] = []
    page.route("**/v1/image", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/v1/image"):
        page.set_input_files("#file", make_file("new.jpg", JPEG, portrait_jpeg))
    expect(page.locator("#save-png")).to_be_disabled()
    with page.expect_request("**/v1/image"):
        page.locator("#feather").fill("6")
    expect_matted(page, "new.jpg")
    expect(page.locator("#save-png")).to_be_enabled()
    page.click("#copy-curl")
    assert "feather=6" in page.locator("#command").inner_text()


@pytest.mark.parametrize("kind", ["None", "Colour", "Blur", "Picture"])
def test_downloads_and_commands_make_what_is_shown(
    page: Page, kind: str, portrait_jpeg: bytes, tmp_path: Path
) -> None:
    name = 'it\'s "me".jpg'
    (tmp_path / name).write_bytes(portrait_jpeg)
    pick(page, portrait_jpeg, name)
    if kind == "Picture":
        behind = encode(np.full((20, 60, 3), (20, 40, 200), np.uint8), "PNG")
        (tmp_path / "be,hind;.png").write_bytes(behind)
        with page.expect_file_chooser() as chooser:
            choose_background(page, "photo", kind)
        chooser.value.set_files(make_file("be,hind;.png", "image/png", behind))
        expect(page.locator("#photo-background")).to_contain_text("be,hind;.png")
    elif kind != "None":
        choose_background(page, "photo", kind)
    if kind in ("None", "Colour"):
        page.select_option("#photo-shadow", "soft" if kind == "None" else "drop")
    with page.expect_response("**/v1/image/*"):
        page.locator("#feather").fill("2")
    expect(page.locator("#photo-caption")).to_contain_text("without the network")

    shown = read_pixels(page, "#after", *SIZE).astype(int)
    saved_name, png = read_download(page, "#save-png")
    with Image.open(io.BytesIO(png)) as saved:
        assert saved.format == "PNG"
        small = np.asarray(saved.convert("RGBa").resize(SIZE, Image.BOX).convert("RGBA"), int)
    weight = shown[..., 3:] / 255
    assert np.abs((shown - small)[..., :3] * weight).mean() < 4, (
        "the file shows what the page shows"
    )
    assert np.abs((shown - small)[..., 3]).mean() < 3
    webp_name, webp = read_download(page, "#save-webp")
    assert webp_name.endswith(".webp") and webp[8:12] == b"WEBP"

    for button, run in (("#copy-curl", ["sh", "-e"]), ("#copy-python", [sys.executable, "-"])):
        page.click(button)
        command = page.locator("#command").inner_text()
        (tmp_path / saved_name).unlink(missing_ok=True)
        subprocess.run(run, input=command, text=True, cwd=tmp_path, check=True, timeout=120)
        assert (tmp_path / saved_name).read_bytes() == png


def test_large_photos_are_shown_small_and_saved_whole(page: Page, portrait: np.ndarray) -> None:
    large = Image.fromarray(portrait).resize((2400, 2400))
    pick(page, encode(large, "JPEG"))
    expect(page.locator("#photo-caption")).to_contain_text("2400 × 2400")
    with page.expect_response("**/v1/image/*"):
        page.locator("#feather").fill("10")
    expect(page.locator("#photo-caption")).to_contain_text("without the network")
    assert page.locator("#after").get_attribute("width") == "2048"
    shown = read_pixels(page, "#after", *SIZE)[..., 3].astype(int)
    with Image.open(io.BytesIO(read_download(page, "#save-png")[1])) as saved:
        assert saved.size == (2400, 2400)
        alpha = np.asarray(saved.getchannel("A").resize(SIZE, Image.BOX), int)
    assert np.abs(shown - alpha).mean() < 3


def test_commands_go_to_the_clipboard_and_fetch_the_sample(
    camera_browser: Browser, live_server, tmp_path: Path
) -> None:
    rights = ["clipboard-read", "clipboard-write"]
    with open_start_page(camera_browser, live_server().url, permissions=rights) as page:
        page.click("#copy-curl")
        expect(page.locator("#copy-curl")).to_have_text("Copied")
        command = page.evaluate("navigator.clipboard.readText()")
    subprocess.run(["sh", "-e"], input=command, text=True, cwd=tmp_path, check=True, timeout=120)
    with Image.open(tmp_path / "portrait-cutout.png") as cutout:
        assert cutout.mode == "RGBA"


def test_page_needs_only_its_own_files(page: Page) -> None:
    """The page is told to be offline once it is there: it goes on with what it has."""
    page.context.set_offline(True)
    choose_background(page, "photo", "Blur")
    assert read_pixels(page, "#after", 64, 44)[4, 58, 3] == 255
    page.locator("#feather").fill("3")
    expect(page.locator("#problem")).to_contain_text("The service does not answer")
