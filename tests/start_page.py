"""The start page in a browser: opening it, giving it files, reading what it shows."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WAIT_MS = 120_000  # for what the network makes, on a machine with much else to do
ACTION_MS = 30_000
expect.set_options(timeout=ACTION_MS)
MAKE_TRANSFER = """
([name, type, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
  return transfer;
}
"""
READ_PIXELS = """
([selector, width, height]) => {
  const small = new OffscreenCanvas(width, height).getContext("2d");
  small.imageSmoothingQuality = "high";
  small.drawImage(document.querySelector(selector), 0, 0, width, height);
  return Array.from(small.getImageData(0, 0, width, height).data);
}
"""


@contextlib.contextmanager
def open_start_page(browser: Browser, url: str, **options: object) -> Iterator[Page]:
    """Open the page; at the end it must have had no error and asked nobody else for anything."""
    context = browser.new_context(**options)
    context.set_default_timeout(ACTION_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: "Security" in said.text and problems.append(said.text))
    page.on("request", lambda request: is_own(request.url, url) or problems.append(request.url))
    page.goto(url)
    expect(page.locator("#photo-caption")).to_contain_text("sample", timeout=WAIT_MS)
    yield page
    context.close()
    assert problems == []


def is_own(address: str, url: str) -> bool:
    return address.startswith((url, url.replace("http", "ws", 1), "blob:"))


def assert_accessible(page: Page) -> None:
    """Assert that what is shown now breaks no rule of WCAG 2.2 AA that axe-core tests."""
    options = {"runOnly": WCAG, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response["violations"]
    wrong = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
    assert wrong == [], wrong


def make_file(name: str, kind: str, content: bytes) -> dict:
    """Return a file for a picker."""
    return {"name": name, "mimeType": kind, "buffer": content}


def transfer(page: Page, name: str, kind: str, content: bytes):
    """Return what a drop or a paste carries."""
    return page.evaluate_handle(MAKE_TRANSFER, [name, kind, list(content)])


def expect_matted(page: Page, name: str) -> None:
    """Wait until a photo is shown with its matte."""
    pattern = re.compile(rf"^{re.escape(name)} .* matted in")
    expect(page.locator("#photo-caption")).to_have_text(pattern, timeout=WAIT_MS)


def read_pixels(page: Page, selector: str, width: int, height: int) -> np.ndarray:
    """Return what a canvas shows, made so small: (height, width, 4) uint8 straight RGBA."""
    values = page.evaluate(READ_PIXELS, [selector, width, height])
    return np.array(values, np.uint8).reshape(height, width, 4)


def choose_background(page: Page, card: str, kind: str) -> None:
    """Choose one of the backgrounds by its label, as a reader does."""
    page.locator(f"#{card}-background").get_by_role("radio", name=kind).check()


def pick(page: Page, content: bytes, name: str = "me.jpg") -> None:
    """Choose a JPEG by the file picker and wait for its matte."""
    page.set_input_files("#file", make_file(name, "image/jpeg", content))
    expect_matted(page, name)


def read_download(page: Page, button: str) -> tuple[str, bytes]:
    """Press a button that downloads; return the file's name and content."""
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()
