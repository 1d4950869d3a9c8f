"""Results in a real browser: the matted clip plays, the API documents work without the network."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.browser_scripts import with_player
from tests.clips import make_clip
from tests.helpers import decode
from tests.videos import Clip

POST_AND_PLAY = with_player("""
async (bytes) => {
  const body = new FormData();
  body.append("file", new Blob([new Uint8Array(bytes)]), "clip.mp4");
  const answer = await fetch("/v1/video?background=%2300ff00", {method: "POST", body});
  if (!answer.ok) throw new Error(await answer.text());
  const video = document.createElement("video");
  video.src = URL.createObjectURL(await answer.blob());
  const context = await playToTheEnd(video);
  const quality = video.getVideoPlaybackQuality();
  return {
    width: video.videoWidth,
    height: video.videoHeight,
    duration: video.duration,
    frames: quality.totalVideoFrames,
    sound: video.webkitAudioDecodedByteCount,
    corner: Array.from(context.getImageData(4, 4, 1, 1).data),
  };
}
""")


def test_matted_clip_plays_to_its_end(browser: Browser, live_server, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2, fps=12, size=(320, 256)).read_bytes()
    page = browser.new_page()
    page.goto(f"{live_server().url}/docs")
    played = page.evaluate(POST_AND_PLAY, list(clip))
    page.close()
    assert (played["width"], played["height"]) == (320, 256)
    assert played["duration"] == pytest.approx(2, abs=0.1)
    assert played["frames"] >= 12 and played["sound"] > 0
    red, green, blue, _ = played["corner"]
    assert green > 200 and red < 60 and blue < 60, "the wall behind the person is green"


SHOW_CUTOUT = """
async (bytes) => {
  const body = new FormData();
  body.append("file", new Blob([new Uint8Array(bytes)]), "clip.mp4");
  const answer = await fetch("/v1/video?outputs=webm", {method: "POST", body});
  if (!answer.ok) throw new Error(await answer.text());
  const video = document.createElement("video");
  video.src = URL.createObjectURL(await answer.blob());
  video.style = "display: block";
  document.body.style = "margin: 0; background: rgb(200, 30, 120)";
  document.body.replaceChildren(video);
  await new Promise((resolve, reject) => {
    video.onended = resolve;
    video.onerror = () => reject(new Error(video.error.message));
    video.play();
  });
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return {type: answer.headers.get("content-type"), sound: video.webkitAudioDecodedByteCount};
}
"""


def test_page_shines_through_a_cutout(browser: Browser, live_server, tmp_path: Path) -> None:
    """WebM with alpha over a coloured page: its colour around the person, theirs on the face."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=1, fps=12, size=(320, 256))
    page = browser.new_page(viewport={"width": 320, "height": 256})
    page.goto(f"{live_server().url}/docs")
    shown = page.evaluate(SHOW_CUTOUT, list(clip.read_bytes()))
    assert shown["type"] == "video/webm" and shown["sound"] > 0
    image = decode(page.screenshot())[..., :3].astype(int)
    page.close()
    assert image.shape == (256, 320, 3)
    wall, face = np.s_[4:30, 4:30], np.s_[65:95, 105:135]
    assert np.abs(image[wall] - (200, 30, 120)).max() <= 3
    last = Clip(clip.read_bytes()).images[-1]
    assert np.abs(image[face] - last[face]).mean() < 8


def test_api_documents_need_nothing_from_elsewhere(browser: Browser, live_server) -> None:
    server = live_server()
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/docs")
    page.get_by_text("Matte images").wait_for()
    page.close()
    elsewhere = [url for url in asked if not url.startswith((server.url, "data:"))]
    assert elsewhere == [] and len(asked) > 3
