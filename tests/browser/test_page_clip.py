"""Clips on the start page: upload, progress, cancelling, players, results, the report's picture."""

import hashlib
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.clips import make_clip
from tests.helpers import wait_until
from tests.start_page import (
    WAIT_MS,
    assert_accessible,
    choose_background,
    make_file,
    open_start_page,
)

MP4 = "video/mp4"
RECORD_PROGRESS = """
() => {
  window.said = [];
  const text = document.getElementById("progress-text");
  new MutationObserver(() => window.said.push(text.textContent)).observe(text, {childList: true});
}
"""
PLAY_BOTH = """
async () => {
  const [before, after] = ["clip-before", "clip-after"].map((id) => document.getElementById(id));
  const both = () => new Promise((done) => {
    const look = () => before.currentTime > 0.3 && after.currentTime > 0.3
      ? done([before.currentTime, after.currentTime, before.videoWidth, after.videoWidth])
      : requestAnimationFrame(look);
    look();
  });
  after.play();
  return both();
}
"""


@pytest.fixture
def page(camera_browser: Browser, live_server):
    url = live_server().url
    with open_start_page(camera_browser, url, reduced_motion="reduce") as opened:
        yield opened


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=1, fps=10, size=(160, 120)).read_bytes()


def list_jobs(url: str, **headers: str) -> list[dict]:
    return httpx.get(f"{url}/v1/jobs", headers=headers).raise_for_status().json()["jobs"]


def find_job(page: Page) -> str:
    """Return the address of the job that the page follows: its id is in the page's own."""
    page.wait_for_url("**#job=*")
    start, _, job_id = page.url.partition("#job=")
    return f"{start.rstrip('/')}/v1/jobs/{job_id}"


def test_clip_goes_through_with_progress_to_players_links_and_report(
    page: Page, clip: bytes
) -> None:
    page.set_input_files("#file", make_file("holiday.mp4", MP4, clip))
    expect(page.locator("#clip-start")).to_be_focused()
    page.locator("#clip-background").get_by_label("Colour #d64550").click()
    page.check("#outputs input[value=webm]")
    page.check("#outputs input[value=stacked]")
    page.select_option("#clip-model", "modnet")
    page.select_option("#clip-shadow", label="Soft, around")
    page.select_option("#clip-place", label="Half as large, lower right")
    page.evaluate(RECORD_PROGRESS)
    with page.expect_request("**/v1/video") as sent:
        page.keyboard.press("Tab")
        page.click("#clip-start")
    assert sent.value.headers["prefer"] == "respond-async"
    expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#clip-progress")).to_be_hidden()
    said = page.evaluate("window.said")
    assert any(text.startswith("Uploading, ") for text in said), said
    assert any(text.startswith("Matting, ") for text in said), said

    before, after, *widths = page.evaluate(PLAY_BOTH)
    assert abs(before - after) < 0.5 and widths == [160, 160]

    address = find_job(page)
    job = httpx.get(address).raise_for_status().json()
    assert job["options"] == {
        "outputs": ["composite", "webm", "stacked"],
        "background": "#d64550",
        "model": "modnet",
        "shadow": "soft",
        "scale": "50%",
        "position": "100% 100%",
    }
    links = page.locator("#clip-done .links a")
    assert links.count() == len(job["results"]) == 3
    for index, result in enumerate(job["results"]):
        with page.expect_download() as download:
            links.nth(index).click()
        assert download.value.suggested_filename == result["name"]
        content = Path(download.value.path()).read_bytes()
        assert hashlib.sha256(content).hexdigest() == result["sha256"]

    report = job["report"]
    picture = page.locator("#report svg")
    label = picture.get_attribute("aria-label")
    assert f"{report['scene_cuts_total']} scene cuts" in label
    lines = page.locator("#report svg path.main")
    assert lines.count() == 2 and page.locator("#report svg path.raw").count() == 1
    assert lines.first.get_attribute("d").count("L") == len(report["timeline"]["time_s"]) - 1
    expect(page.locator("#report dl")).to_contain_text(str(report["frames"]))

    assert_accessible(page)

    page.click("#clip-delete")
    expect(page.locator("#clip-done")).to_be_hidden()
    wait_until(lambda: httpx.get(address).status_code == 404)


def test_cancel_ends_the_job(page: Page, tmp_path: Path) -> None:
    long = make_clip(tmp_path / "long.mp4", seconds=60, fps=10, size=(96, 64)).read_bytes()
    page.set_input_files("#file", make_file("long.mp4", MP4, long))
    choose_background(page, "clip", "Blur")
    page.click("#clip-start")
    expect(page.locator("#progress-text")).to_contain_text("frames · about", timeout=WAIT_MS)
    assert 0 < page.locator("#progress-bar").evaluate("e => e.value") < 1
    address = find_job(page)
    page.click("#clip-cancel")
    expect(page.locator("#clip-progress")).to_be_hidden()
    expect(page.locator("#clip-start")).to_be_enabled()
    wait_until(lambda: httpx.get(address).status_code == 404, timeout_s=60)


def test_a_file_that_is_no_clip_is_told_in_words(page: Page) -> None:
    page.set_input_files("#file", make_file("notes.mp4", MP4, b"not a clip " * 50))
    expect(page.locator("#clip-name")).to_contain_text("cannot play it")
    page.click("#clip-start")
    expect(page.locator("#problem .problem h2")).not_to_be_empty(timeout=WAIT_MS)
    link = page.locator("#problem a").get_attribute("href")
    assert link.startswith("/problems/")
    expect(page.locator("#clip-progress")).to_be_hidden()


def test_results_can_be_had_where_a_key_is_needed(
    camera_browser: Browser, live_server, clip: bytes
) -> None:
    url = live_server(api_keys="clip-key").url
    with open_start_page(camera_browser, url) as page:
        page.fill("#key-field", "clip-key")
        page.keyboard.press("Enter")
        page.set_input_files("#file", make_file("clip.mp4", MP4, clip))
        page.click("#clip-start")
        expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
        assert page.evaluate(PLAY_BOTH)[3] == 160
        with page.expect_download() as download:
            page.locator("#clip-done .links a").click()
        result = list_jobs(url, **{"X-API-Key": "clip-key"})[0]["results"][0]
        assert Path(download.value.path()).stat().st_size == result["bytes"]


def test_reload_goes_on_with_the_job(page: Page, clip: bytes) -> None:
    page.set_input_files("#file", make_file("clip.mp4", MP4, clip))
    page.click("#clip-start")
    page.wait_for_url("**#job=*")
    page.reload()
    expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#clip-form")).to_be_visible()
    expect(page.locator("#clip-after")).to_be_visible()
