"""Photos on the start page: what goes wrong, and how it is said."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.test_page_photo import JPEG
from tests.start_page import (
    WAIT_MS,
    expect_matted,
    make_file,
    open_start_page,
    pick,
    read_pixels,
)


def test_errors_are_the_problem_documents_in_words(page: Page) -> None:
    page.set_input_files("#file", make_file("broken.jpg", JPEG, b"\xff\xd8\xff\xe0" + bytes(400)))
    problem = page.locator("#problem")
    expect(problem).to_contain_text("The file cannot be decoded", timeout=WAIT_MS)
    expect(problem.get_by_role("link")).to_have_attribute("href", "/problems/undecodable-media")
    expect(problem.get_by_role("button", name="Try again")).to_have_count(0)
    expect(page.locator("#photo-busy")).to_be_hidden()
    assert read_pixels(page, "#after", 64, 44)[4, 58, 3] < 20, "what was shown before stays"
    problem.get_by_role("button").click()
    expect(problem).to_be_empty()


def test_what_was_shown_before_keeps_its_caption(page: Page, portrait_jpeg: bytes) -> None:
    pick(page, portrait_jpeg, "good.jpg")
    page.set_input_files("#file", make_file("notes.txt", "text/plain", b"no photo"))
    expect(page.locator("#problem")).to_contain_text("The file is none of JPEG", timeout=WAIT_MS)
    expect_matted(page, "good.jpg")


def test_photo_that_is_too_large_is_not_even_sent(camera_browser: Browser, live_server) -> None:
    with open_start_page(camera_browser, live_server(image_max_bytes="1000000").url) as page:
        expect(page.locator("#photo-model option")).to_have_count(2)
        page.route("**/v1/image", lambda route: route.abort())
        page.set_input_files("#file", make_file("large.jpg", JPEG, bytes(1_300_000)))
        told = (
            "The file large.jpg has 1.3 MB, the service takes up to 1.0 MB. Choose a smaller one."
        )
        expect(page.locator("#problem")).to_contain_text(told)


def test_photo_is_sent_again_without_being_chosen_again(page: Page, portrait_jpeg: bytes) -> None:
    page.route("**/v1/image", lambda route: route.abort())
    page.set_input_files("#file", make_file("me.jpg", JPEG, portrait_jpeg))
    expect(page.locator("#problem")).to_contain_text("The service does not answer")
    page.unroute("**/v1/image")
    page.get_by_role("button", name="Try again").click()
    expect_matted(page, "me.jpg")
    expect(page.locator("#problem")).to_be_empty()


def test_long_waits_are_counted_in_seconds(page: Page, portrait_jpeg: bytes) -> None:
    page.route("**/v1/image", lambda route: None)  # never answered
    page.set_input_files("#file", make_file("me.jpg", JPEG, portrait_jpeg))
    expect(page.locator("#status")).to_have_text("Matting…")
    expect(page.locator("#photo-busy")).to_have_text(re.compile(r"Matting… \d+ s"))


def test_key_is_asked_for_and_stays_in_memory(
    camera_browser: Browser, live_server, portrait_jpeg: bytes
) -> None:
    url = live_server(api_keys="first-key").url
    with open_start_page(camera_browser, url) as page:
        expect(page.locator("#key-field")).to_be_visible()
        page.set_input_files("#file", make_file("me.jpg", JPEG, portrait_jpeg))
        expect(page.locator("#problem")).to_contain_text("A valid API key is needed")
        page.fill("#key-field", "first-key")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#key-field")).to_be_hidden()
        expect_matted(page, "me.jpg")
        pick(page, portrait_jpeg)
        page.click("#copy-curl")
        assert "$MATTING_KEY" in page.locator("#command").inner_text()
        assert "first-key" not in page.locator("#command").inner_text()
        stored = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert page.evaluate(stored) == [0, 0, "", url + "/"]
        page.reload()
        assert page.locator("#key-field").input_value() == ""
