"""Which player shows the transparency of which result: the table of docs/video.md, measured."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import httpx
import pytest
from playwright.sync_api import Browser

from tests.clips import make_clip
from tests.helpers import ROOT

KINDS = {
    "webm": "cutout.webm",
    "prores": "cutout.mov",
    "stacked": "stacked.mp4",
    "gif": "cutout.gif",
    "webp": "cutout.webp",
}
TYPES = {
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
WALL, FACE = (12, 12), (80, 120)  # row and column in the clip: nothing there, and all of it
SHOW = """
async ({bytes, type}) => {
  const look = (picture, width, height) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    return [[12, 12], [120, 80]].map(([x, y]) => context.getImageData(x, y, 1, 1).data[3]);
  };
  if (type.startsWith("image/")) {
    const image = new Image();
    image.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], {type}));
    await image.decode();
    return look(image, image.naturalWidth, image.naturalHeight);
  }
  const video = document.createElement("video");
  video.muted = true;
  const shown = new Promise((resolve) => {
    video.requestVideoFrameCallback(() => resolve(true));
    video.onerror = () => resolve(false);
    video.onended = () => resolve(video.videoWidth > 0);
  });
  video.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], {type}));
  video.play().catch(() => {});
  if (!await shown) return null;
  return look(video, video.videoWidth, video.videoHeight);
}
"""


@pytest.fixture(scope="module")
def results(live_server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("results")
    clip = make_clip(folder / "clip.mp4", seconds=0.3, fps=10, size=(320, 256)).read_bytes()
    paths = {}
    for kind, name in KINDS.items():
        url = f"{live_server().url}/v1/video"
        answer = httpx.post(url, files={"file": clip}, data={"outputs": kind}, timeout=300)
        paths[kind] = folder / name
        paths[kind].write_bytes(answer.raise_for_status().content)
    return paths


def describe(alphas: Sequence[int] | None) -> str:
    """Return the word of the table for alpha on the wall and on the face."""
    if alphas is None:
        return "not played"
    wall, face = alphas
    assert face > 235, "nothing was drawn"
    return "alpha" if wall < 20 else "no alpha"


def ask_ffmpeg(path: Path, decoder: str | None = None) -> str:
    try:
        file = av.open(str(path))
    except av.FFmpegError:
        return describe(None)
    with file:
        stream = file.streams.video[0]
        try:
            if decoder is None:
                frame = next(file.decode(stream))
            else:
                context = av.CodecContext.create(decoder, "r")
                frame = next(
                    frame for packet in file.demux(stream) for frame in context.decode(packet)
                )
        except (av.FFmpegError, StopIteration):
            return describe(None)
    alpha = frame.to_ndarray(format="rgba")[..., 3]
    return describe([int(alpha[WALL]), int(alpha[FACE])])


def ask_opencv(path: Path) -> str:
    capture = cv2.VideoCapture(str(path))
    was_read, frame = capture.read()
    capture.release()
    if not was_read:
        return describe(None)
    assert frame.shape[2] in (3, 4)
    return describe([int(frame[at][3]) if frame.shape[2] == 4 else 255 for at in (WALL, FACE)])


@pytest.fixture
def ask_chromium(browser: Browser, live_server) -> Callable[[Path], str]:
    def ask(path: Path) -> str:
        page = browser.new_page()
        page.goto(f"{live_server().url}/docs")
        given = {"bytes": list(path.read_bytes()), "type": TYPES[path.suffix]}
        alphas = page.evaluate(SHOW, given)
        page.close()
        return describe(alphas)

    return ask


@pytest.mark.parametrize("kind", KINDS)
def test_table_of_players_is_true(results, ask_chromium, kind: str) -> None:
    path = results[kind]
    measured = [
        ask_chromium(path),
        ask_ffmpeg(path),
        ask_ffmpeg(path, "libvpx-vp9"),
        ask_opencv(path),
    ]
    row = re.search(
        rf"^\| `{kind}` \| (\w+ ?\w*(?: \| \w+ ?\w*){{3}}) \|$",
        (ROOT / "docs" / "video.md").read_text(),
        re.M,
    )
    assert row is not None and row[1].split(" | ") == measured
