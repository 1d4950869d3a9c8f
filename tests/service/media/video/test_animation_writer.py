"""Animated WebP and GIF, frame by frame as Pillow shows them."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageSequence
from skimage.data import astronaut

from service.media.video.writing import animation_writer
from service.media.video.writing.animation_writer import GifWriter, WebpWriter
from service.media.video.writing.result_writer import ResultLimit, VideoWriteError
from tests.video_copies import INFO

CLOCK = dataclasses.replace(INFO, time_base=Fraction(1, 1000), origin_pts=5000)
WRITERS = {"webp": WebpWriter, "gif": GifWriter}
HEIGHT, WIDTH = 64, 96


def make_cutouts(count: int) -> list[np.ndarray]:
    """A disc of an astronaut that wanders over a transparent picture and leaves nothing behind."""
    picture = astronaut()[60:188:2, 150:342:2]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mattes = [np.clip((22 - np.hypot(x - 24 - 9 * i, y - 32)) / 6, 0, 1) for i in range(count)]
    return [np.dstack([picture, np.rint(matte * 255).astype(np.uint8)]) for matte in mattes]


def write(path, kind: str, cutouts, times, info=CLOCK) -> list[tuple[int, np.ndarray]]:
    """Return duration in milliseconds and picture of each frame of what is written."""
    with WRITERS[kind](path, info) as writer:
        for cutout, pts in zip(cutouts, times, strict=True):
            writer.write_frame(cutout, pts, 40)
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0, "for ever"
        shown = []
        for frame in ImageSequence.Iterator(animation):
            picture = np.asarray(frame.convert("RGBA")).astype(int)
            shown.append((frame.info["duration"], picture))
        return shown


@pytest.mark.parametrize("kind", WRITERS)
def test_every_frame_comes_back_with_its_time(tmp_path, kind: str) -> None:
    cutouts = make_cutouts(5)
    found = write(tmp_path / f"a.{kind}", kind, cutouts, [5120, 5160, 5200, 5500, 5540])
    assert [duration for duration, _ in found[:4]] == [40, 40, 300, 40]
    for (_, shown), cutout in zip(found, cutouts, strict=True):
        alpha = cutout[..., 3]
        wanted = alpha if kind == "webp" else np.where(alpha > 127, 255, 0)
        assert (shown[..., 3] == wanted).all()
        solid = alpha == 255
        assert np.abs(shown[solid] - cutout[solid]).mean() < 6


def test_clock_of_a_gif_counts_hundredths(tmp_path) -> None:
    cutouts = make_cutouts(4)
    found = write(tmp_path / "a.gif", "gif", cutouts, [5000, 5033, 5067, 5100])
    assert [duration for duration, _ in found] == [30, 40, 30, 40], "and the last lasts as it says"


def test_pixels_of_another_shape_become_square(tmp_path) -> None:
    info = dataclasses.replace(CLOCK, sample_aspect_ratio=Fraction(2))
    ((_, shown),) = write(tmp_path / "a.gif", "gif", make_cutouts(1), [5000], info)[:1]
    assert shown.shape == (HEIGHT, 2 * WIDTH, 4)


@pytest.mark.parametrize(
    ("kind", "times", "words"),
    [
        ("gif", [5000, 5010], "100 frames a second, the limit is 50"),
        ("webp", [5000, 5000.4], "1001 frames a second, the limit is 1000"),
    ],
)
def test_frames_that_follow_too_soon_are_refused(tmp_path, kind, times, words) -> None:
    info = dataclasses.replace(CLOCK, time_base=Fraction(1, 10_000), origin_pts=50_000)
    pts = [round(10 * time) for time in times]
    with pytest.raises(VideoWriteError) as caught:
        write(tmp_path / "a", kind, make_cutouts(2), pts, info)
    assert isinstance(caught.value.__cause__, ResultLimit) and words in str(caught.value.__cause__)
    assert "max_fps" in caught.value.__cause__.hint and not (tmp_path / "a").exists()


@pytest.mark.parametrize("claimed", [None, 5])
def test_long_animation_is_refused(tmp_path, monkeypatch, claimed) -> None:
    """At once where the clip says its length, else at the first frame too many."""
    monkeypatch.setattr(animation_writer, "MAX_MEGAPIXELS", 3 * HEIGHT * WIDTH / 1e6)
    info = dataclasses.replace(CLOCK, frames_estimate=claimed)
    with pytest.raises(VideoWriteError) as caught:
        write(tmp_path / "a", "webp", make_cutouts(4), [5000, 5040, 5080, 5120], info)
    assert "megapixels in all frames" in str(caught.value.__cause__)
