"""Clips on the start page: upload, progress, cancelling, players, results."""

import hashlib
from fractions import Fraction
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
    transfer,
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
    return (
        httpx.get(f"{url}/v1/jobs", headers=headers, timeout=60).raise_for_status().json()["jobs"]
    )


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
    job = httpx.get(address, timeout=60).raise_for_status().json()
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
    wait_until(lambda: httpx.get(address, timeout=60).status_code == 404)


def test_clips_come_by_drop_and_paste_too(page: Page, clip: bytes) -> None:
    files = transfer(page, "drop.MKV", "", clip)  # systems that do not know Matroska tell no type
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    expect(page.locator("#clip-name")).to_contain_text("drop.MKV")
    page.click("#tab-photo")
    pasted = transfer(page, "paste.mp4", MP4, clip)
    paste = "new ClipboardEvent('paste', {clipboardData: files, bubbles: true})"
    page.evaluate(f"files => document.body.dispatchEvent({paste})", pasted)
    expect(page.locator("#clip-name")).to_contain_text("paste.mp4")
    expect(page.locator("#tab-clip")).to_have_attribute("aria-selected", "true")


def test_cancel_ends_the_job(page: Page, tmp_path: Path) -> None:
    long = make_clip(tmp_path / "long.mp4", seconds=60, fps=10, size=(96, 64)).read_bytes()
    page.set_input_files("#file", make_file("long.mp4", MP4, long))
    choose_background(page, "clip", "Blur")
    page.click("#clip-start")
    expect(page.locator("#progress-text")).to_contain_text("frames · about", timeout=WAIT_MS)
    assert 0 < page.locator("#progress-bar").evaluate("e => e.value") < 1
    address = find_job(page)
    expect(page.locator("#clip-cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#clip-progress")).to_be_hidden()
    expect(page.locator("#clip-start")).to_be_focused()
    expect(page.locator("#clip-start")).to_be_enabled()
    wait_until(lambda: httpx.get(address).status_code == 404, timeout_s=60)


def test_person_of_a_clip_is_looked_for_in_the_box_that_is_drawn(
    page: Page, tmp_path: Path
) -> None:
    """In percent: of pixels that are not square the browser does not tell."""
    wide = make_clip(
        tmp_path / "wide.mp4", seconds=1, fps=5, size=(160, 120), sample_aspect_ratio=Fraction(2)
    )
    page.set_input_files("#file", make_file("wide.mp4", MP4, wide.read_bytes()))
    expect(page.locator("#clip-before")).to_have_js_property("videoWidth", 320)
    page.locator("#clip-region").check()
    box = page.locator("#clip-region-pad").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(320 / 120, rel=0.02), "the picture alone"
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.9, steps=3)
    page.mouse.up()
    expect(page.locator("#clip-region-right-value")).to_have_text("75 %")
    expect(page.locator("#clip-region-pad")).to_be_hidden()
    page.uncheck("#outputs input[value=composite]")
    page.check("#outputs input[value=alpha]")
    page.click("#clip-start")
    expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
    job = httpx.get(find_job(page), timeout=60).raise_for_status().json()
    assert job["options"] == {"outputs": ["alpha"], "roi": "25%,10%,50%,80%"}
    page.set_input_files("#file", make_file("wide.mp4", MP4, wide.read_bytes()))
    expect(page.locator("#clip-region")).not_to_be_checked()


def test_page_says_why_a_clip_cannot_be_sent(
    camera_browser: Browser, live_server, clip: bytes, tmp_path: Path
) -> None:
    url = live_server(video_max_s="2", video_max_bytes="1000000").url
    long = make_clip(tmp_path / "long.mp4", seconds=3, fps=5).read_bytes()
    with open_start_page(camera_browser, url) as page:
        missing = page.locator("#clip-missing")
        page.click("#tab-clip")
        expect(page.locator("#clip-limits")).to_contain_text("up to 2 s and 1.0 MB")
        expect(page.locator("#clip-start")).to_be_hidden()
        page.set_input_files("#file", make_file("clip.mp4", MP4, clip))
        expect(page.locator("#clip-start")).to_be_in_viewport()
        expect(page.locator("#clip-start")).to_be_enabled()
        page.uncheck("#outputs input[value=composite]")
        expect(missing).to_have_text("Choose at least one thing to make.")
        page.check("#outputs input[value=composite]")
        with page.expect_file_chooser():
            choose_background(page, "clip", "Picture")
        expect(missing).to_have_text("Choose the picture that goes behind the person.")
        expect(page.locator("#clip-start")).to_be_disabled()
        page.set_input_files("#file", make_file("large.mp4", MP4, bytes(1_200_000)))
        expect(missing).to_contain_text("The clip has 1.2 MB, the service takes up to 1.0 MB")
        page.set_input_files("#file", make_file("long.mp4", MP4, long))
        expect(missing).to_have_text(
            "The clip is 3 s long, the service takes up to 2 s. Cut it first."
        )
        expect(page.locator("#clip-start")).to_be_disabled()


def test_clip_that_is_worked_on_is_not_lost_by_another(page: Page, tmp_path: Path) -> None:
    long = make_clip(tmp_path / "long.mp4", seconds=60, fps=10, size=(96, 64)).read_bytes()
    page.set_input_files("#file", make_file("long.mp4", MP4, long))
    page.click("#clip-start")
    address = find_job(page)
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.set_input_files("#file", make_file("other.mp4", MP4, long))
    expect(page.locator("#clip-name")).to_contain_text("long.mp4")
    expect(page.locator("#clip-progress")).to_be_visible()
    assert asked == ["Stop the work on long.mp4 and take other.mp4?"]
    page.once("dialog", lambda dialog: dialog.accept())
    page.set_input_files("#file", make_file("other.mp4", MP4, long))
    expect(page.locator("#clip-name")).to_contain_text("other.mp4")
    wait_until(lambda: httpx.get(address).status_code == 404, timeout_s=60)


def test_a_file_that_is_no_clip_is_told_in_words(page: Page) -> None:
    page.set_input_files("#file", make_file("notes.mp4", MP4, b"not a clip " * 50))
    expect(page.locator("#clip-name")).to_contain_text("cannot play it")
    expect(page.locator("#clip-before")).to_be_hidden()
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


def test_job_is_taken_up_again_when_the_service_is_back(page: Page, clip: bytes) -> None:
    page.route("**/v1/jobs/**", lambda route: route.abort())
    page.set_input_files("#file", make_file("clip.mp4", MP4, clip))
    page.click("#clip-start")
    page.wait_for_url("**#job=*")
    expect(page.locator("#problem")).to_contain_text("does not answer", timeout=WAIT_MS)
    assert "#job=" in page.url, "a reload finds it, too"
    page.unroute("**/v1/jobs/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#problem")).to_be_empty()


def test_reload_goes_on_with_the_job(page: Page, clip: bytes) -> None:
    page.set_input_files("#file", make_file("clip.mp4", MP4, clip))
    page.click("#clip-start")
    page.wait_for_url("**#job=*")
    page.reload()
    expect(page.locator("#report")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#clip-form")).to_be_visible()
    expect(page.locator("#clip-after")).to_be_visible()
