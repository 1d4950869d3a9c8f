"""The example page in a real browser, whose camera shows a portrait."""

import httpx
from playwright.sync_api import Browser

from tests.helpers import ROOT
from tests.sockets import LiveSession

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
    with httpx.Client(base_url=live_server().url) as client:
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


def test_recorder_page_plays_what_it_records(camera_browser: Browser, live_server) -> None:
    address = f"{live_server().url}/record.html"
    page = camera_browser.new_page(permissions=["camera"])
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    content = RECORDER.read_text()
    page.route(address, lambda route: route.fulfill(body=content, content_type="text/html"))
    page.goto(address)
    page.wait_for_function("person.buffered.length && person.buffered.end(0) > 1", timeout=120_000)
    size = page.evaluate("[person.videoWidth, person.videoHeight]")
    page.close()
    assert problems == [] and size == [640, 360]
