"""The example page in a real browser, whose camera shows a portrait."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, sync_playwright

from tests.browser.conftest import QUIET
from tests.helpers import ROOT
from tests.sockets import LiveSession

PAGE = ROOT / "examples" / "live.html"
RECORDER = ROOT / "examples" / "record.html"
SIZE = 640, 360
READ_CANVAS = """
() => {
  const context = document.getElementById("person").getContext("2d");
  const read = (x, y) => Array.from(context.getImageData(x, y, 1, 1).data);
  return {face: read(%d, %d), wall: read(%d, %d)};
}
"""


def write_camera(path: Path, portrait: np.ndarray) -> None:
    """Write what Chromium takes for a camera: two frames of uncompressed YUV 4:2:0 (Y4M)."""
    width, height = SIZE
    small = Image.fromarray(portrait).resize((height, height))
    scene = Image.new("RGB", SIZE, (200, 200, 200))
    scene.paste(small, ((width - height) // 2, 0))
    luma, blue, red = scene.convert("YCbCr").split()
    halves = [plane.resize((width // 2, height // 2)) for plane in (blue, red)]
    frame = b"FRAME\n" + b"".join(plane.tobytes() for plane in (luma, *halves))
    path.write_bytes(b"YUV4MPEG2 W%d H%d F15:1 Ip A1:1 C420jpeg\n" % SIZE + frame * 2)


@pytest.fixture
def context(tmp_path: Path, portrait: np.ndarray) -> Iterator[BrowserContext]:
    chromium = shutil.which("chromium")
    assert chromium, "Chromium is needed: `make browser` installs it"
    write_camera(tmp_path / "camera.y4m", portrait)
    arguments = [
        *QUIET,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={tmp_path / 'camera.y4m'}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser.new_context()
        browser.close()


def test_example_page_shows_the_person_of_the_camera_over_its_own_colour(
    context: BrowserContext, live_server
) -> None:
    with httpx.Client(base_url=live_server().url) as client:
        session = LiveSession(client, output="cutout", format="webp", ref_size=256)
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{PAGE.as_uri()}#{session.url},{session.ticket}")
        page.wait_for_function("facts.textContent.includes('\"frame\": 3')", timeout=60_000)
        face, wall = (300, 80), (20, 20)
        seen = page.evaluate(READ_CANVAS % (*face, *wall))
        page.close()
    assert problems == []
    assert seen["face"][3] > 200, "the person is there"
    assert seen["wall"][3] < 60, "and the page shines through the wall"


def test_recorder_page_plays_what_it_records(context: BrowserContext, live_server) -> None:
    address = f"{live_server().url}/record.html"
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    content = RECORDER.read_text()
    page.route(address, lambda route: route.fulfill(body=content, content_type="text/html"))
    page.goto(address)
    page.wait_for_function("person.buffered.length && person.buffered.end(0) > 1", timeout=120_000)
    size = page.evaluate("[person.videoWidth, person.videoHeight]")
    page.close()
    assert problems == [] and size == [640, 360]
