"""`matte live` reads clips as `matte video` does: colours, turns, shapes, and says what it did."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from cli.__main__ import main as matte
from tests.clip_kinds import flat, tag, write_pictures
from tests.clips import make_clip, picture
from tests.fakes import FakeEngine
from tests.sockets import serve


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A service that takes all of a picture for the person."""
    with serve(FakeEngine(lambda batch: np.ones_like(batch[:, 0]))) as client:
        yield str(client.base_url)


def run_live(server: str, clip: Path, out: Path) -> list[np.ndarray]:
    """Return the frames of the movie, (H, W, 3) RGB, converted as the file says."""
    assert matte(["live", str(clip), "--out", str(out), "--server", server]) == 0
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, ColorRange.MPEG)
        assert (context.color_primaries, context.color_trc) == (1, 1)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("colorspace", [1, 6])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_colours_of_a_clip_are_kept(server, tmp_path: Path, colorspace, color_range) -> None:
    clip = make_clip(
        tmp_path / "a.mp4",
        seconds=0.2,
        tone=False,
        color=(200, 60, 30),
        colorspace=colorspace,
        color_range=color_range,
    )
    for frame in run_live(server, clip, tmp_path / "out.mp4"):
        assert np.abs(frame.astype(int) - (200, 60, 30)).max() <= 4


def test_hdr_of_a_clip_is_tone_mapped_and_told(server, tmp_path: Path, capsys) -> None:
    """Reference white of PQ, 203 nit, is 0.58 of the signal (BT.2408)."""
    clip = write_pictures(
        tmp_path / "a.mkv",
        [flat((148, 148, 148))] * 3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none"},
        prepare=tag(9, 16, 9),
    )
    frames = run_live(server, clip, tmp_path / "out.mp4")
    assert len(frames) == 3 and min(frame.min() for frame in frames) >= 0.85 * 255
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("3 frames, ")
    assert second == "of the clip: converted from bits 10, tone mapped from BT.2020 PQ"


def test_turned_clip_is_upright(server, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", seconds=0.1, size=(192, 128), tone=False, rotation=90)
    frames = run_live(server, clip, tmp_path / "out.mp4")
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        upright = np.rot90(picture(index, (192, 128)), -1)
        assert np.abs(frame.astype(int) - upright).mean() < 6


def test_narrow_pixels_become_square_and_it_is_told(server, tmp_path: Path, capsys) -> None:
    clip = make_clip(
        tmp_path / "a.mp4", seconds=0.1, tone=False, sample_aspect_ratio=Fraction(3, 2)
    )
    frames = run_live(server, clip, tmp_path / "out.mp4")
    assert [frame.shape for frame in frames] == [(64, 144, 3)] * 3
    assert capsys.readouterr().err.splitlines()[1] == "of the clip: square pixels yes"


def test_odd_row_and_column_are_kept(server, tmp_path: Path) -> None:
    image = flat((40, 40, 40), (97, 65))
    image[:, -1] = image[-1] = 220
    clip = write_pictures(tmp_path / "a.mkv", [image] * 2, pix_fmt="yuv444p", options={"qp": "0"})
    for frame in run_live(server, clip, tmp_path / "out.mp4"):
        assert frame.shape == (66, 98, 3), "the edge is repeated"
        assert frame[:60, 96].min() > 190 and frame[64, :90].min() > 190
        assert frame[:60, :90].max() < 70


def test_clip_that_is_cut_says_so(server, tmp_path: Path, capsys) -> None:
    whole = make_clip(tmp_path / "a.mkv", seconds=2, tone=False)
    clip = tmp_path / "b.mkv"
    clip.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 0 < len(run_live(server, clip, tmp_path / "out.mp4")) < 60
    assert "cut short 1" in capsys.readouterr().err
