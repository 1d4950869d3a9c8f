"""The API documents in a real browser: a photo is matted by *Try it out*."""

import pytest
from playwright.sync_api import Browser, expect

from tests.helpers import ROOT

WAIT_MS = 60_000


@pytest.mark.parametrize("options", [{}, {"output": "cutout", "crop": "true"}])
def test_photo_is_matted_by_the_form_of_the_api_documents(
    browser: Browser, live_server, options: dict[str, str]
) -> None:
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    strange: list[str] = []
    page.on("pageerror", lambda error: strange.append(str(error)))
    server = live_server(api_keys="secret")
    page.goto(f"{server.url}/docs")
    page.locator("button.authorize").click()
    page.get_by_label("auth-bearer-value").fill("secret")
    page.get_by_role("button", name="Apply credentials").first.click()
    page.locator("button.btn-done").first.click()
    operation = page.locator("#operations-image-matte_image")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    photo = operation.locator("[data-property-name=file] input[type=file]")
    photo.set_input_files(ROOT / "examples" / "portrait.jpg")
    for name, value in options.items():
        operation.locator(f"[data-property-name={name}] select").select_option(value)
    with page.expect_response(lambda found: found.request.method == "POST") as posted:
        operation.locator("button.execute").click()
    answer = posted.value
    assert answer.status == 200, answer.text()
    assert answer.headers["content-type"] == "image/png"
    result = operation.locator(".live-responses-table img")
    expect(result).to_be_visible(timeout=WAIT_MS)
    assert (int(answer.headers["x-width"]) < 340) is ("crop" in options)
    assert strange == []
    page.close()
