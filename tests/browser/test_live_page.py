"""The example page in a real browser, whose camera shows a portrait."""

import base64

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.helpers import ROOT
from tests.sockets import LiveSession
from tests.videos import Clip

PAGE = ROOT / "examples" / "live.html"
RECORDER = ROOT / "examples" / "record.html"
READ_CANVAS = """
() => {
  const context = document.getElementById("person").getContext("2d");
  const read = (x, y) => Array.from(context.getImageData(x, y, 1, 1).data);
  return {face: read(%d, %d), wall: read(%d, %d)};
}
"""


def test_example_page_shows_the_person_of_the_camera_over_its_own_colour(
    camera_browser: Browser, live_server
) -> None:
    with httpx.Client(base_url=live_server().url, timeout=60) as client:
        session = LiveSession(client, output="cutout", format="webp", ref_size=256)
        page = camera_browser.new_page(permissions=["camera"])
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


KEEP_WHAT_IS_SENT = """
  const plain = window.fetch;
  const read = async (body) => {
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
  };
  window.kept = [];
  window.fetch = async (address, options) => {
    const answer = await plain(address, options);
    if (options?.method !== "PUT" || !answer.ok) return answer;
    const frames = Number(answer.headers.get("X-Frames-In"));
    kept.push({slice: await read(options.body), frames, piece: await read(answer.clone().body)});
    return answer;
  };
"""


def test_recorder_page_plays_what_it_records(camera_browser: Browser, live_server) -> None:
    address = f"{live_server().url}/record.html"
    page = camera_browser.new_page(permissions=["camera"])
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.add_init_script(KEEP_WHAT_IS_SENT)
    content = RECORDER.read_text()
    page.route(address, lambda route: route.fulfill(body=content, content_type="text/html"))
    page.goto(address)
    page.wait_for_function("person.buffered.length && person.buffered.end(0) > 1", timeout=120_000)
    page.wait_for_function("kept.length > 2", timeout=120_000)
    size = page.evaluate("[person.videoWidth, person.videoHeight]")
    kept = page.evaluate("kept")
    page.close()
    assert problems == [] and size == [640, 360]
    check_what_came_back(kept)


def check_what_came_back(kept: list[dict]) -> None:
    """Compare the pieces with the slices that they answer: counts, times and pictures."""
    sent, back = (
        Clip(b"".join(base64.b64decode(one[name]) for one in kept)) for name in ("slice", "piece")
    )
    assert len(sent.times) == sum(one["frames"] for one in kept) > 20
    assert len(back.times) == len(sent.times) - 1, "the last one waits for its follower"
    assert back.times == pytest.approx([time - sent.times[0] for time in sent.times[:-1]], abs=1e-3)
    face, wall = (slice(70, 90), slice(292, 308)), (slice(10, 40), slice(10, 40))
    for before, after in zip(sent.images, back.images, strict=False):
        assert np.abs(before[face].astype(int) - after[face]).mean() < 8
        assert np.abs(after[wall].astype(int) - (0x00, 0xB1, 0x40)).mean() < 8
