"""A long clip: its parts and its rarest frames, by the numbers that its pictures bear."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from service.media.decoder.client import Decoder
from service.media.video.types import ClipSelection, VideoFrame
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.sockets import serve
from tests.videos import Clip, post

FPS, SECONDS = 25, 550
BITS, BAR = 14, 4  # of a number, as bars of so many pixels
GROUP = 250  # frames, the key frame counted


def draw(number: int) -> np.ndarray:
    """Return planes of YUV 4:2:0, (72, 64) uint8, whose bars are the bits of a number."""
    planes = np.full((72, 64), 128, np.uint8)
    bits = number >> np.arange(16) & 1
    planes[:48] = np.repeat(np.where(bits, 220, 30), BAR)
    return planes


def read_number(image: np.ndarray) -> int:
    """Return the number that a picture (H, W, 3) bears."""
    bars = image[8:40].mean((0, 2)).reshape(16, BAR)[:BITS].mean(1)
    return int((1 << np.flatnonzero(bars > 128)).sum())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    options = {"preset": "ultrafast", "g": str(GROUP), "keyint_min": str(GROUP), "crf": "30"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options=options | {"sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FPS * SECONDS):
            frame = av.VideoFrame.from_ndarray(draw(number), "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def decode(clip: Path, selection: ClipSelection, max_frames: int | None = None) -> list:
    """Return (time in seconds, number) of the frames that a child with the usual budgets reads."""
    with clip.open("rb") as file, closing(Decoder(Settings())) as child:
        info = child.open_video(file, selection, max_s=600, max_frames=max_frames)
        found = [
            (round(float(item.pts * info.time_base), 3), read_number(item.image))
            for item in child.read_video(info)
            if isinstance(item, VideoFrame)
        ]
        assert child.repairs.describe() == {}
    return found


@pytest.mark.parametrize("start_s", [300.0, 309.96, 310.0, 545.0])
def test_part_late_in_a_long_clip(clip: Path, start_s: float) -> None:
    """Of 13,750 frames, those of the last groups before the part are decoded, and the part."""
    first = round(start_s * FPS)
    wanted = [(number / FPS, number) for number in range(first, first + 2 * FPS)]
    selection = ClipSelection(start_s=start_s, end_s=start_s + 2)
    assert decode(clip, selection, 4 * GROUP) == wanted


def test_few_frames_of_a_long_clip(clip: Path) -> None:
    wanted = [(float(second), second * FPS) for second in range(0, SECONDS, 10)]
    assert decode(clip, ClipSelection(max_fps=0.1)) == wanted


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serve(FakeEngine(lambda batch: np.ones_like(batch[:, 0]))) as opened:
        yield opened


def test_part_of_a_long_clip_is_answered_by_the_usual_settings(client, clip: Path) -> None:
    answer = post(
        client, clip.read_bytes(), start=300, end=302, outputs="composite", background="white"
    )
    assert answer.status_code == 200, answer.text
    result = Clip(answer.content)
    assert result.times == pytest.approx([index / FPS for index in range(2 * FPS)], abs=0.001)
    numbers = [read_number(image) for image in result.images]
    assert numbers == list(range(300 * FPS, 302 * FPS))
