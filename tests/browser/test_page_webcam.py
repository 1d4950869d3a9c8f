"""The webcam on the start page, whose camera shows a portrait, over a live socket."""

import re

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers import read_metric, wait_until
from tests.start_page import (
    WAIT_MS,
    assert_accessible,
    choose_background,
    open_start_page,
    read_pixels,
)

COUNT_CALLS = """
const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
window.cameraCalls = 0;
media.getUserMedia = (wanted) => { window.cameraCalls += 1; return open(wanted); };
"""
# Nothing is fast enough for this: each answer is held back on its way to the page.
SLOW_DOWN = """
const Native = window.WebSocket;
window.WebSocket = class extends Native {
  set onmessage(listener) {
    super.onmessage = (event) => setTimeout(() => listener(event), 700);
  }
};
"""
SIZE = 64, 36
WALL, FACE = (4, 3), (9, 33)  # (row, column), mirrored


@pytest.fixture
def page(camera_browser: Browser, live_server):
    url = live_server().url
    with open_start_page(
        camera_browser, url, permissions=["camera"], reduced_motion="reduce"
    ) as opened:
        opened.add_init_script(COUNT_CALLS)
        opened.reload()
        opened.click("#tab-webcam")
        yield opened
    with httpx.Client(base_url=url, timeout=60) as client:
        # A page that is left while it opens a session cannot end it: it lives for session_idle_s.
        wait_until(lambda: read_metric(client, "matting_sessions_active") == 0, timeout_s=240)


def start(page: Page) -> None:
    page.select_option("#webcam-size", "128")
    page.click("#webcam-start")
    expect(page.locator("#webcam-view")).to_be_visible(timeout=WAIT_MS)


def test_webcam_asks_on_click_and_shows_the_person_before_each_background(page: Page) -> None:
    assert page.evaluate("window.cameraCalls") == 0
    with page.expect_websocket() as opened:
        start(page)
    assert page.evaluate("window.cameraCalls") == 1
    assert re.fullmatch(r"ws://[^?]*/v1/sessions/[^/?]+/live", opened.value.url), "no key in it"

    choose_background(page, "webcam", "Colour")
    page.locator("#webcam-background").get_by_label("Colour #d64550").click()
    wait_until(lambda: is_near(page, WALL, (0xD6, 0x45, 0x50)), timeout_s=60)
    face = read_pixels(page, "#webcam-view", *SIZE)[FACE].astype(int)
    assert np.abs(face[:3] - (0xD6, 0x45, 0x50)).max() > 40, "the person is before it"
    choose_background(page, "webcam", "Blur")
    wait_until(lambda: is_near(page, WALL, (200, 200, 200)), timeout_s=60)
    choose_background(page, "webcam", "None")
    wait_until(lambda: read_pixels(page, "#webcam-view", *SIZE)[WALL][3] < 40, timeout_s=60)

    facts = page.locator("#webcam-facts")
    expect(facts).to_contain_text(re.compile(r"Latency\d+ ms"))
    expect(facts).to_contain_text(re.compile(r"Results\d+\.\d a second"))

    assert page.locator("#webcam-model option").all_inner_texts() == ["modnet-fast", "modnet"]
    expect(page.locator("#webcam-model")).to_have_value("modnet-fast")
    with page.expect_request("**/v1/sessions") as reopened:
        page.select_option("#webcam-size", "192")
    options = reopened.value.post_data_json
    assert options["ref_size"] == 192 and options["smoothing"] == "off"
    assert (options["output"], options["format"]) == ("alpha", "jpeg"), "the page has the colours"
    assert "model" not in options, "what model=auto takes for live frames"
    with page.expect_request("**/v1/sessions") as reopened:
        page.select_option("#webcam-model", "modnet")
    options = reopened.value.post_data_json
    assert options["model"] == "modnet" and options["ref_size"] == 192, "the size stays"

    page.click("#webcam-start")
    expect(page.locator("#webcam-view")).to_be_hidden()
    expect(page.locator("#webcam-start")).to_have_text("Start the camera")


def is_near(page: Page, place: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    pixel = read_pixels(page, "#webcam-view", *SIZE)[place].astype(int)
    return bool(np.abs(pixel[:3] - colour).max() < 16)


def test_page_says_when_it_is_too_slow_and_what_to_do(page: Page) -> None:
    page.add_init_script(SLOW_DOWN)
    page.reload()
    page.click("#tab-webcam")
    page.select_option("#webcam-model", "modnet")
    page.select_option("#webcam-size", "192")
    page.click("#webcam-start")
    expect(page.locator("#webcam-wait")).to_have_text("Waiting for the first result…")
    slow = page.locator("#webcam-slow")
    expect(slow).to_contain_text("too slow for live video", timeout=WAIT_MS)
    expect(slow).to_contain_text(re.compile(r"\d ms late"))
    latency = page.locator("#webcam-facts").get_by_text(re.compile(r"^\d+ ms$")).inner_text()
    assert int(latency.split()[0]) >= 700, "the delay on the way counts"
    assert_accessible(page)
    with page.expect_request("**/v1/sessions") as reopened:
        slow.get_by_role("button", name="Use 128 px").click()
    assert reopened.value.post_data_json["ref_size"] == 128
    with page.expect_request("**/v1/sessions") as reopened:
        slow.get_by_role("button", name="Use the model modnet-fast").click(timeout=WAIT_MS)
    assert "model" not in reopened.value.post_data_json
    page.click("#webcam-start")


def test_a_camera_that_is_not_allowed_is_told_in_words(
    camera_browser: Browser, live_server
) -> None:
    with open_start_page(camera_browser, live_server().url) as page:
        page.click("#tab-webcam")
        page.click("#webcam-start")
        expect(page.locator("#problem h2")).to_have_text("There is no camera")
        expect(page.locator("#problem")).to_contain_text("The camera was not allowed")
        expect(page.locator("#webcam-start")).to_be_enabled()
