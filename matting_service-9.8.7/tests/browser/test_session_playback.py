"""The answers of a session play in a real browser, each appended as it comes."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser_scripts import with_player
from tests.clips import make_clip

SEND_AND_PLAY = with_player("""
async (chunks) => {
  const options = {packaging: "fmp4", background: "#00ff00", fps: 12, ref_size: 128};
  const opened = await (await fetch("/v1/sessions", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(options),
  })).json();
  if (!MediaSource.isTypeSupported(opened.mime)) throw new Error(opened.mime);
  const source = new MediaSource();
  const video = document.createElement("video");
  video.src = URL.createObjectURL(source);
  await new Promise((resolve) => source.addEventListener("sourceopen", resolve, {once: true}));
  const buffer = source.addSourceBuffer(opened.mime);
  const ranges = [];
  const append = async (answer) => {
    if (!answer.ok) throw new Error(await answer.text());
    const bytes = await answer.arrayBuffer();
    if (bytes.byteLength) {
      const done = new Promise((resolve, reject) => {
        buffer.addEventListener("updateend", resolve, {once: true});
        buffer.addEventListener("error", () => reject(new Error("refused")), {once: true});
      });
      buffer.appendBuffer(bytes);
      await done;
    }
    const found = [];
    for (let i = 0; i < buffer.buffered.length; i++)
      found.push([buffer.buffered.start(i), buffer.buffered.end(i)]);
    ranges.push(found);
  };
  const path = `/v1/sessions/${opened.id}`;
  for (let i = 0; i < chunks.length; i++)
    await append(await fetch(`${path}/chunks/${i}`, {
      method: "PUT",
      headers: {"Content-Type": "video/mp4"},
      body: new Uint8Array(chunks[i]),
    }));
  await append(await fetch(`${path}/finish`, {method: "POST"}));
  source.endOfStream();
  const context = await playToTheEnd(video);
  return {
    ranges,
    width: video.videoWidth,
    height: video.videoHeight,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    corner: Array.from(context.getImageData(4, 4, 1, 1).data),
  };
}
""")


def test_answers_play_as_they_come(browser: Browser, live_server, tmp_path: Path) -> None:
    seconds = (1 / 12, 0.5, 1)
    chunks = [
        make_clip(tmp_path / f"{index}.mp4", seconds=length, fps=12, size=(320, 256), tone=False)
        for index, length in enumerate(seconds)
    ]
    page = browser.new_page()
    page.goto(f"{live_server().url}/docs")
    played = page.evaluate(SEND_AND_PLAY, [list(chunk.read_bytes()) for chunk in chunks])
    page.close()
    assert (played["width"], played["height"]) == (320, 256)
    # One frame late: the first chunk's only frame waits, every end is a frame before the input's.
    first, *others = played["ranges"]
    assert first == []
    for found, count in zip(others, (6, 18, 19), strict=True):
        ((start, end),) = found
        assert start == 0 and end == pytest.approx(count / 12, abs=0.001)
    assert played["frames"] >= 12
    red, green, blue, _ = played["corner"]
    assert green > 200 and red < 60 and blue < 60, "the wall behind the person is green"
