"""A real browser for the tests that play what the service makes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.start_page import open_start_page

# What keeps a browser from looking for the outside world at its start.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
CAMERA_SIZE = 640, 360


@pytest.fixture(scope="module")  # while it is open, no other event loop runs here
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    opened = launch(playwright)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def camera_browser(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray
) -> Iterator[Browser]:
    """A browser whose camera shows the portrait; who may use it is up to each context."""
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write_camera(camera, portrait)
    opened = launch(
        playwright,
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    )
    yield opened
    opened.close()


def launch(playwright: Playwright, *arguments: str) -> Browser:
    chromium = shutil.which("chromium")
    assert chromium, "Chromium is needed: `make browser` installs it"
    return playwright.chromium.launch(executable_path=chromium, args=[*QUIET, *arguments])


def write_camera(path: Path, portrait: np.ndarray) -> None:
    """Write what Chromium takes for a camera: two frames of uncompressed YUV 4:2:0 (Y4M)."""
    width, height = CAMERA_SIZE
    small = Image.fromarray(portrait).resize((height, height))
    scene = Image.new("RGB", CAMERA_SIZE, (200, 200, 200))
    scene.paste(small, ((width - height) // 2, 0))
    luma, blue, red = scene.convert("YCbCr").split()
    halves = [plane.resize((width // 2, height // 2)) for plane in (blue, red)]
    frame = b"FRAME\n" + b"".join(plane.tobytes() for plane in (luma, *halves))
    path.write_bytes(b"YUV4MPEG2 W%d H%d F15:1 Ip A1:1 C420jpeg\n" % CAMERA_SIZE + frame * 2)


@pytest.fixture
def page(camera_browser: Browser, live_server) -> Iterator[Page]:
    """The start page of a service of its own; it may use the camera."""
    with open_start_page(camera_browser, live_server().url, permissions=["camera"]) as opened:
        yield opened
