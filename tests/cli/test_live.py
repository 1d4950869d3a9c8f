"""`matte live` against real uvicorn with a stand-in network."""

import io
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cli.__main__ import main as matte
from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import find_free_port
from tests.sockets import serve

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve(FakeEngine(lambda batch: np.zeros_like(batch[:, 0])), api_keys=KEY) as client:
        yield str(client.base_url)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=0.5, fps=24, size=(98, 66), tone=False)
    return str(path)


def read_frames(content: bytes) -> tuple[list[np.ndarray], float]:
    with av.open(io.BytesIO(content)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return frames, float(container.streams.video[0].average_rate)


def test_clip_becomes_a_movie_with_every_frame(server, clip, tmp_path: Path, capsys) -> None:
    out = tmp_path / "live.mp4"
    arguments = ["live", clip, "--out", str(out), "--server", server, "--key", KEY]
    assert matte([*arguments, "--background", "#00ff00"]) == 0
    frames, rate = read_frames(out.read_bytes())
    assert len(frames) == 12 and rate == 24 and frames[0].shape == (66, 98, 3)
    for frame in frames:  # nobody is in them, the network says
        assert np.abs(frame.astype(int) - (0, 255, 0)).mean() < 8
    assert capsys.readouterr().err.startswith("12 frames, ")


def test_times_of_a_clip_are_kept(server, tmp_path: Path) -> None:
    times = [0, 2000, 4000, 4500, 8000]
    clip = make_clip(
        tmp_path / "slow.mkv", times=times, time_base=Fraction(1, 1000), tone=False, fps=25
    )
    out = tmp_path / "live.mp4"
    assert matte(["live", str(clip), "--out", str(out), "--server", server, "--key", KEY]) == 0
    with av.open(str(out)) as container:
        written = [frame.time for frame in container.decode(video=0)]
    assert written == pytest.approx([time / 1000 for time in times], abs=0.001)


def test_movie_can_go_into_a_pipe(server, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", pipe)
    arguments = ["live", clip, "--out", "-", "--output", "alpha", "--server", server]
    assert matte([*arguments, "--key", KEY]) == 0
    content = pipe.buffer.getvalue()
    assert content.startswith(b"\x1aE\xdf\xa3"), "Matroska"
    frames, _ = read_frames(content)
    assert len(frames) == 12 and max(frame.max() for frame in frames) < 8


@pytest.mark.parametrize(
    ("code", "source", "more", "words"),
    [
        (1, "nothing.mp4", [], "nothing.mp4: there is no such file"),
        (1, __file__, [], "test_live.py: cannot be read as a clip"),
        (1, "99", [], "99: no webcam has this number"),
        (1, None, [], "no valid API key"),
        (1, None, [], "; --key or MATTE_KEY is the key"),
        (2, None, ["--key", KEY, "--background", "nocolour"], "background"),
        (1, None, ["--server", "http://127.0.0.1:{free}"], ": Connection refused; see whether"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    server, clip, tmp_path, capfd, code: int, source: str | None, more: list[str], words: str
) -> None:
    out = tmp_path / "live.mp4"
    rest = [text.format(free=find_free_port()) for text in more]
    arguments = ["live", source or clip, "--out", str(out), "--server", server, *rest]
    assert matte(arguments) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line
    assert not out.exists()


def test_movie_that_is_there_is_overwritten_by_force_only(server, clip, tmp_path, capsys) -> None:
    out = tmp_path / "live.mp4"
    out.write_bytes(b"mine")
    arguments = ["live", clip, "--out", str(out), "--server", server, "--key", KEY]
    assert matte(arguments) == 1
    assert capsys.readouterr().err == f"error: {out}: is there already; --force overwrites\n"
    assert out.read_bytes() == b"mine"
    assert matte([*arguments, "--force"]) == 0
    assert len(read_frames(out.read_bytes())[0]) == 12
