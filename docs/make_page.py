"""Make the sample of the start page and docs/page*.jpg, the page in Chromium.

python -m docs.make_page
"""

import io
import shutil
import tempfile
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage import data

from tests.helpers import start_live_server

DOCS = Path(__file__).parent
CLIP = DOCS.parent / "examples" / "clip.mp4"
PAGE = DOCS.parent / "service" / "web" / "page"
SAMPLE_ROWS = 352  # of 512: head and shoulders
WAIT_MS = 300_000
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}

SHOW_A_FRAME = """
(video) => new Promise((done) => {
  video.controls = false;
  video.requestVideoFrameCallback(done);
  video.currentTime = 0.5;
})
"""


def make_sample(url: str) -> None:
    """Write the sample photo, and the cutout that the service makes of it."""
    photo = PAGE / "portrait.jpg"
    Image.fromarray(data.astronaut()[:SAMPLE_ROWS]).save(photo, quality=92)
    options = {"output": "cutout", "format": "webp"}
    files = {"file": photo.read_bytes()}
    answer = httpx.post(f"{url}/v1/image", data=options, files=files, timeout=60)
    (PAGE / "portrait-cutout.webp").write_bytes(answer.raise_for_status().content)


def open_page(browser: Browser, url: str, **options: object) -> Page:
    page = browser.new_page(reduced_motion="reduce", **options)
    page.goto(url)
    expect(page.locator("#photo-caption")).to_contain_text("sample")
    return page


def save(page: Page, name: str, **options: object) -> None:
    with Image.open(io.BytesIO(page.screenshot(**options))) as picture:
        picture.convert("RGB").save(DOCS / name, quality=76, optimize=True)


def show_photo(browser: Browser, url: str) -> None:
    """The first view on a desktop."""
    save(open_page(browser, url, **DESKTOP), "page.jpg")


def show_phone(browser: Browser, url: str) -> None:
    """The sample over a colour on a phone."""
    page = open_page(browser, url, **PHONE)
    page.locator("#photo-background").get_by_role("radio", name="Colour").check()
    page.locator("#split").fill("25")
    page.locator("#split").blur()
    save(page, "page_phone.jpg", full_page=True)


def show_clip(browser: Browser, url: str) -> None:
    """A matted clip with its report, in the dark."""
    page = open_page(browser, url, color_scheme="dark", **DESKTOP)
    page.set_input_files("#file", CLIP)
    page.click("#clip-start")
    expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
    player = page.locator("#clip-after")
    expect(player).to_have_js_property("readyState", 4)
    player.evaluate(SHOW_A_FRAME)
    save(page, "page_clip.jpg", full_page=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = start_live_server(Path(folder) / "log", data_dir=folder, device="cpu")
        try:
            make_sample(server.url)
            chromium = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for show in (show_photo, show_phone, show_clip):
                show(browser, server.url)
            browser.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
