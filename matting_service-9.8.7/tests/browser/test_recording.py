"""Slices of a MediaRecorder in a session: the frames, times and pictures of the whole recording."""

import base64

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.sessions import SessionClient, read_parts

RECORD = """
async ([mime, count]) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [160, 120];
  const drawing = canvas.getContext("2d");
  let number = 0;
  const draw = () => {
    drawing.fillStyle = "#202020";
    drawing.fillRect(0, 0, 160, 120);
    drawing.fillStyle = "#e0e0e0";
    drawing.fillRect((3 * number++) % 140, 40, 20, 40);
  };
  draw();
  const timer = setInterval(draw, 40);
  const recorder = new MediaRecorder(canvas.captureStream(25), {mimeType: mime});
  const slices = [];
  let enough;
  const filled = new Promise((done) => { enough = done; });
  recorder.ondataavailable = ({data}) => {
    if (data.size) slices.push(data);
    if (slices.length === count) enough();
  };
  const stopped = new Promise((done) => { recorder.onstop = done; });
  recorder.start(300);
  await filled;
  recorder.stop();
  await stopped;
  clearInterval(timer);
  const texts = [];
  for (const slice of slices) {
    const bytes = new Uint8Array(await slice.arrayBuffer());
    texts.push(btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), "")));
  }
  return texts;
}
"""


@pytest.mark.parametrize("mime", ["video/webm;codecs=vp8", "video/webm;codecs=vp9"])
def test_slices_of_a_recorder_are_taken_as_they_come(
    browser: Browser, live_server, mime: str
) -> None:
    server = live_server()
    page = browser.new_page()
    page.goto(f"{server.url}/docs")
    texts = page.evaluate(RECORD, [mime, 6])
    page.close()
    slices = [base64.b64decode(text) for text in texts]
    assert len(slices) >= 6
    options = {"packaging": "frames", "output": "composite", "background": "red", "ref_size": 64}
    with httpx.Client(base_url=server.url, timeout=120) as client:
        whole = send(client, [b"".join(slices)], options)
        parts = send(client, slices, options)
    assert len(whole) == len(parts) >= 6
    assert [p.frame for p in parts] == list(range(len(parts)))
    assert [p.time_s for p in parts] == pytest.approx([p.time_s for p in whole], abs=1e-5)
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one.image, other.image)


def send(client, slices: list[bytes], options: dict) -> list:
    session = SessionClient(client, **options)
    answers = [session.send(part) for part in slices]
    return [part for answer in (*answers, session.finish()) for part in read_parts(answer)]
