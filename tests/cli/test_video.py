"""`matte video` on real clips with the real network."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.__main__ import main as matte
from cli.video.command import choose_paths
from cli.video.screen import list_marks
from service.clips.options import VideoOptions
from service.errors import ImpossibleOutput
from service.inference.engine import OnnxEngine
from service.media.decoder.client import Decoder
from service.settings import Settings
from service.stills.options import ImageOptions
from tests.clips import make_clip
from tests.helpers import ROOT, make_environ, wait_until
from tests.videos import Clip, post

QUICK = ("--device", "cpu", "--ref-size", "64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the clip lies: `clip.mkv`, twelve frames."""
    make_clip(tmp_path / "clip.mkv", seconds=1, fps=12, size=(160, 128))
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    return matte(["video", str(folder / "clip.mkv"), *arguments, *QUICK])


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_clip_is_the_one_that_the_service_makes(make_client, folder: Path, capsys) -> None:
    client = make_client(
        OnnxEngine(Settings(device="cpu"))
    )  # as the command: others round otherwise
    out = folder / "teal.mp4"
    assert run(folder, str(out), "--background", "teal", "--preset", "ultrafast") == 0
    content = (folder / "clip.mkv").read_bytes()
    served = post(client, content, background="teal", ref_size=64, preset="ultrafast")
    ours, theirs = Clip(out.read_bytes()), Clip(served.content)
    assert ours.times == theirs.times and len(ours.times) == 12
    assert ours.sound == theirs.sound and len(ours.sound) > 10
    assert np.array_equal(ours.images, theirs.images)
    assert list_names(folder) == ["clip.mkv", "teal.mp4"]
    printed = capsys.readouterr()
    assert printed.err == ""
    assert re.search(r"^frames +12 of 160 x 128, 1\.000 s$", printed.out, re.M)
    assert f"{out} ({out.stat().st_size:,} bytes)" in printed.out
    assert re.search(r"^network +modnet-fast, CPUExecutionProvider$", printed.out, re.M)


def test_json_has_the_report_and_a_folder_takes_the_own_names(folder: Path, capsys) -> None:
    out = folder / "results"
    out.mkdir()
    assert run(folder, str(out), "--outputs", "alpha", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    (result,) = printed["results"]
    assert result["path"] == str(out / "alpha.mp4") and result["content_type"] == "video/mp4"
    assert result["bytes"] == (out / "alpha.mp4").stat().st_size
    assert list_names(out) == ["alpha.mp4"]
    report = printed["report"]
    assert (report["frames"], report["duration_s"]) == (12, 1.0)
    assert 0 < report["mean_coverage"] < 1 and report["flicker_raw"] >= report["flicker_smoothed"]
    assert (report["width"], report["height"], report["rotation_applied_deg"]) == (160, 128, 0)
    assert (report["model"], report["provider"]) == ("modnet-fast", "CPUExecutionProvider")


def test_picture_behind_is_read_as_the_service_does(folder: Path, portrait_jpeg: bytes) -> None:
    behind, out = folder / "behind.jpg", folder / "out.mp4"
    behind.write_bytes(portrait_jpeg)
    assert run(folder, str(out), "--background-file", str(behind)) == 0
    assert len(Clip(out.read_bytes()).images) == 12


def test_file_that_is_there_is_overwritten_by_force_only(folder: Path, capsys) -> None:
    out = folder / "out.mp4"
    out.write_bytes(b"mine")
    assert run(folder, str(out)) == 1
    assert out.read_bytes() == b"mine"
    assert read_refusal(capsys) == f"error: {out}: is there already; --force overwrites"
    assert run(folder, str(out), "--force") == 0
    assert len(Clip(out.read_bytes()).images) == 12
    assert list_names(folder) == ["clip.mkv", "out.mp4"]


def read_refusal(capsys) -> str:
    """Return the single line of stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_limits_of_the_service_are_not_those_of_the_command(tmp_path: Path) -> None:
    make_clip(tmp_path / "wide.mkv", seconds=0.2, fps=10, size=(4224, 64), tone=False)
    out = tmp_path / "out.mp4"
    arguments = ["video", str(tmp_path / "wide.mkv"), str(out), "--device", "cpu"]
    assert matte([*arguments, "--refine", "off", "--foreground", "off", "--ref-size", "64"]) == 0
    assert Clip(out.read_bytes()).images[0].shape == (64, 4224, 3)


@pytest.mark.parametrize(
    ("code", "arguments", "text"),
    [
        (1, ["none.mkv", "out.mp4"], "none.mkv: No such file"),
        (
            1,
            ["text.mkv", "out.mp4"],
            "not a complete MP4, MOV, WebM, MKV, MPEG-TS, AVI, FLV or GIF video",
        ),
        (2, ["clip.mkv", "out.webm"], "out.webm does not end in .mp4"),
        (2, ["clip.mkv", "out.webm"], "add --outputs webm, or write to out.mp4"),
        (2, ["clip.mkv", "out.mov"], "add --outputs prores, or write to out.mp4"),
        (1, ["clip.mkv", "none/out.mp4"], "none: no such folder"),
        (2, ["clip.mkv", "out.mp4", "--outputs", "alpa"], "outputs: "),
        (2, ["clip.mkv", "out.mp4", "--crf", "99"], "crf: "),
        (2, ["clip.mkv", "out.mp4", "--preset", "slowly"], "--preset"),
        (2, ["clip.mkv", "out.mp4", "--blur-radius", "3"], "blur_radius needs background=blur"),
        (1, ["clip.mkv", "out.mp4", "--background-file", "none.jpg"], "none.jpg: No such file"),
        (1, ["clip.mkv", "out.mp4", "--background-file", "text.mkv"], "background_file: "),
        (1, ["clip.mkv", "out.mp4", "--model", "none.onnx"], "cannot read the model none.onnx"),
        (1, ["clip.mkv", "out.mp4", "--model", "model.ckpt"], "convert it first"),
    ],
)
def test_refusal_is_one_line_and_leaves_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    code: int,
    arguments: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "text.mkv").write_text("hello\n" * 100)
    assert matte(["video", *arguments, "--device", "cpu"]) == code
    line = read_refusal(capsys)
    assert line.startswith("error: ") and text in line
    assert list_names(folder) == ["clip.mkv", "text.mkv"]


def test_failure_half_way_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    read, seen = Decoder.read_video, []

    def read_three_and_kill(self, info):
        for count, item in enumerate(read(self, info)):
            if count == 3:
                seen.extend(folder.glob(".matte-*/*"))
                self._process.kill()
                self._process.wait()
                raise self._fail(EOFError())
            yield item

    monkeypatch.setattr(Decoder, "read_video", read_three_and_kill)
    assert run(folder, str(folder / "out.mp4")) == 1
    assert read_refusal(capsys) == "error: the decoder failed on this file"
    assert "composite.mp4" in [path.name for path in seen], "it had begun"
    assert list_names(folder) == ["clip.mkv"]


@pytest.mark.parametrize(
    "command, options, left_out, words",
    [
        ("video", VideoOptions, {"model"}, ["ofd|off", "default: veryfast"]),
        ("image", ImageOptions, {"model", "keep_s"}, ["auto|fine|off", "default: 90"]),
        ("folder", ImageOptions, {"model", "keep_s"}, ["auto|fine|off", "default: 90"]),
    ],
)
def test_every_option_of_the_api_has_its_flag_and_help(
    command: str, options, left_out: set[str], words: list[str], capsys, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert matte([command, "--help"]) == 0
    text = capsys.readouterr().out
    for name, field in options.model_fields.items():
        if name in left_out:  # a file, too, and so with a text of its own
            continue
        assert f"--{name.replace('_', '-')} " in text
        assert (field.description or "").replace("`", "")[:20] in text
    assert all(word in text for word in words)


def test_several_outputs_go_into_a_folder(tmp_path: Path) -> None:
    names = ["composite.mp4", "alpha.mp4"]
    new, there, file = tmp_path / "new", tmp_path / "there", tmp_path / "file.mp4"
    there.mkdir()
    file.touch()
    assert choose_paths(new, names) == [new / name for name in names]
    assert choose_paths(there, names) == [there / name for name in names]
    assert choose_paths(tmp_path / "NEW.MP4", names[:1]) == [tmp_path / "NEW.MP4"]
    with pytest.raises(NotADirectoryError, match="2 outputs"):
        choose_paths(file, names)
    with pytest.raises(ImpossibleOutput, match="does not end in .mp4"):
        choose_paths(new, names[:1])


def test_long_lists_are_cut_short_on_the_screen() -> None:
    marks = [{"frame": n, "time_s": n / 2, "reason": "jump"} for n in range(8)]
    assert list_marks(0, []) == "none"
    assert list_marks(1, marks[:1]) == "1: 0.000 s jump"
    assert list_marks(300, marks).startswith("300: 0.000 s jump, 0.500 s jump")
    assert list_marks(300, marks).endswith(", 2.000 s jump, ...")


@pytest.fixture
def start(tmp_path: Path):
    """Return `start()`: the command on a long clip, in a process group and on a terminal."""
    make_clip(tmp_path / "clip.mp4", seconds=20, fps=25, size=(320, 256))
    processes, ends = [], []

    def begin() -> tuple[subprocess.Popen, Callable[[], str]]:
        master, slave = pty.openpty()
        ends.append(master)
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "video", "clip.mp4", "out.mp4", "--device", "cpu"],
            cwd=tmp_path,
            env=make_environ() | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        processes.append(process)
        text = bytearray()

        def read() -> str:
            try:
                text.extend(os.read(master, 1 << 16))
            except OSError:  # the other end is closed
                pass
            return text.decode(errors="replace")

        return process, read

    yield begin
    for process in processes:
        process.kill()
        process.wait()
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_interrupted_command_leaves_nothing_and_says_so(start, tmp_path: Path, number) -> None:
    process, read = start()
    # The bar shows frames done, of how many, and how fast.
    wait_until(lambda: re.search(r"\b[1-9]\d*/500\b.* fps", read()), timeout_s=60)
    assert len(list_names(tmp_path)) == 2, "the clip and a hidden folder"
    os.killpg(process.pid, number)  # to all of them, as a terminal does
    assert process.wait(30) == 130
    assert list_names(tmp_path) == ["clip.mp4"]
    wait_until(lambda: "error: interrupted; nothing was written" in read())
    assert "Traceback" not in read()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
