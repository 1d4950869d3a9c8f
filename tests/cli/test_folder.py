"""`matte folder`: names, the report, and runs that were interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from cli.__main__ import main as matte
from cli.stills.journal import Journal
from cli.stills.tree import Photo, find_photos
from tests.helpers import ROOT, make_environ, wait_until
from tests.onnx_files import write_model

QUICK = ("--device", "cpu", "--ref-size", "64")


def save_photos(folder: Path, portrait: np.ndarray, count: int) -> None:
    """Save `count` different small photos, in three folders."""
    picture = Image.fromarray(portrait)
    for number in range(count):
        path = folder / ("", "a", "a/b")[number % 3] / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((number, 0, number + 256, 256)).resize((64, 64)).save(path)


def read_results(folder: Path) -> dict[str, bytes]:
    """Return everything in a folder but the report."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.jsonl"
    }


def read_report(folder: Path) -> dict[str, dict]:
    lines = map(json.loads, (folder / "report.jsonl").read_text().splitlines())
    return {line["file"]: line for line in lines}


@pytest.fixture
def run(tmp_path: Path, capsys) -> Callable[..., dict]:
    """Return `run(*arguments)`: the counts of the command, its exit code among them."""

    def start(*arguments: str) -> dict:
        folders = [str(tmp_path / "in"), str(tmp_path / "out")]
        code = matte(["folder", *folders, "--json", *QUICK, *arguments])
        counts = json.loads(capsys.readouterr().out)
        assert counts.pop("report") == str(tmp_path / "out" / "report.jsonl")
        return counts | {"code": code}

    return start


def test_tree_is_mirrored_and_only_what_is_new_is_done_again(run, portrait, tmp_path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    save_photos(source, portrait, 4)
    (source / "notes.txt").write_text("no photo")
    assert run() == {"done": 4, "skipped": 0, "failed": 0, "code": 0}
    first = read_results(out)
    assert [*first] == ["000.png", "003.png", "a/001.png", "a/b/002.png"]
    report = read_report(out)
    assert report["a/001.jpg"]["result"] == "a/001.png"
    assert (report["a/001.jpg"]["width"], report["a/001.jpg"]["model"]) == (64, "modnet-fast")

    Image.fromarray(portrait[:64, :80]).save(source / "000.jpg")
    (out / "003.png").unlink()
    (source / "a" / "004.jpg").write_text("broken")
    assert run() == {"done": 2, "skipped": 2, "failed": 1, "code": 1}
    second = read_results(out)
    assert second["003.png"] == first["003.png"] and second["000.png"] != first["000.png"]
    assert {**second, "000.png": b""} == {**first, "000.png": b""}
    report = read_report(out)
    assert [*report] == sorted(report) and len(report) == 5
    assert report["a/004.jpg"]["status"] == "failed"
    assert report["a/004.jpg"]["problem"]["code"] == "unsupported-media"


def test_other_options_make_other_results(run, portrait, tmp_path) -> None:
    save_photos(tmp_path / "in", portrait, 2)
    assert run()["done"] == 2
    assert run("--threshold", "0.5") == {"done": 2, "skipped": 0, "failed": 0, "code": 0}
    alpha = np.asarray(Image.open(tmp_path / "out" / "000.png"))
    assert set(np.unique(alpha)) <= {0, 255}


def test_hints_beside_the_photos(run, portrait, tmp_path) -> None:
    save_photos(tmp_path / "in", portrait, 3)
    hints = tmp_path / "hints"
    (hints / "a").mkdir(parents=True)
    strokes = Image.new("L", (64, 64), 128)
    strokes.paste(255, (0, 0, 64, 8))
    strokes.save(hints / "a" / "001.png")
    assert run("--hint-folder", str(hints)) == {"done": 3, "skipped": 0, "failed": 0, "code": 0}
    with Image.open(tmp_path / "out" / "a" / "001.png") as alpha:
        assert np.asarray(alpha)[:7].min() == 255, "kept"
    with Image.open(tmp_path / "out" / "000.png") as alpha:
        assert np.asarray(alpha)[:7].min() < 255, "it has none"
    strokes.save(hints / "000.png")
    assert run("--hint-folder", str(hints))["done"] == 1, "one photo has a new hint"
    strokes.save(hints / "000.bmp")
    assert run("--hint-folder", str(hints)) == {"done": 0, "skipped": 2, "failed": 1, "code": 1}
    problem = read_report(tmp_path / "out")["000.jpg"]["problem"]
    assert "000.png, 000.bmp" in problem["detail"]


def test_trimaps_beside_the_photos(portrait, tmp_path, capsys) -> None:
    trimap_model = write_model(tmp_path / "trimap.onnx", channels=4)
    save_photos(tmp_path / "in", portrait, 2)
    trimaps = tmp_path / "trimaps"
    trimaps.mkdir()
    Image.new("L", (64, 64), 128).save(trimaps / "000.png")
    folders = [str(tmp_path / "in"), str(tmp_path / "out")]
    given = ["--model", str(trimap_model), "--trimap-folder", str(trimaps), "--device", "cpu"]
    assert matte(["folder", *folders, "--json", *given]) == 1
    counts = json.loads(capsys.readouterr().out)
    assert (counts["done"], counts["failed"]) == (1, 1)
    problem = read_report(tmp_path / "out")["a/001.jpg"]["problem"]
    assert "needs a trimap" in problem["detail"]


def test_file_of_somebody_else_is_kept_unless_forced(run, portrait, tmp_path, capsys) -> None:
    save_photos(tmp_path / "in", portrait, 1)
    mine = tmp_path / "out" / "000.png"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    assert run() == {"done": 0, "skipped": 0, "failed": 1, "code": 1}
    assert mine.read_bytes() == b"mine"
    assert run("--force")["done"] == 1 and mine.read_bytes() != b"mine"


def test_names_of_results(tmp_path) -> None:
    source = tmp_path / "in"
    for name in ("b.jpg", "b.webp", "c.HEIC", "x/b.png", ".hidden.jpg", ".trash/d.jpg", "e.mp4"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    (source / "out").mkdir()
    (source / "out" / "b.png").touch()
    found = {str(p.file): str(p.result) for p in find_photos(source, source / "out", ".png")}
    assert found == {
        "b.jpg": "b.jpg.png",
        "b.webp": "b.webp.png",
        "c.HEIC": "c.png",
        "x/b.png": "x/b.png",
    }


@pytest.mark.parametrize(
    ("code", "arguments", "text"),
    [
        (1, ["none", "out"], "none: is no folder"),
        (1, ["in/a.jpg", "out"], "a.jpg: is one file; `matte image` takes one photo"),
        (1, ["empty", "out"], "there are no photos in it; their names end in .jpg, .jpeg"),
        (2, ["in", "in"], "results would be matted as photos"),
        (2, ["in", "."], "results would be matted as photos"),
        (2, ["in", "out", "--jobs", "0"], "--jobs"),
        (2, ["in", "out", "--format", "jpeg", "--output", "cutout"], "JPEG cannot carry alpha"),
    ],
)
def test_refusal_is_one_line(tmp_path, monkeypatch, capsys, code, arguments, text) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    assert matte(["folder", *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and text in line


PHOTO = Photo(PurePosixPath("a.jpg"), PurePosixPath("a.png"))


@pytest.fixture
def open_journal(tmp_path: Path) -> Callable[..., Journal]:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    return lambda identity="1": Journal(
        tmp_path, tmp_path / "out", tmp_path / "out" / "report.jsonl", identity
    )


def test_journal_knows_what_is_done(open_journal, tmp_path) -> None:
    with open_journal() as journal:
        content, source = journal.read(PHOTO)
        assert content == b"photo" and not journal.is_done(PHOTO)
        journal.write(PHOTO, source, b"result", {"width": 1})
    with open_journal() as journal:
        assert journal.is_done(PHOTO) and not journal.is_foreign(PHOTO)
    with open_journal("2") as journal:
        assert not journal.is_done(PHOTO) and not journal.is_foreign(PHOTO)
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    with open_journal() as journal:
        assert not journal.is_done(PHOTO)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "report.jsonl"]


def test_journal_that_was_cut_off_goes_on(open_journal, tmp_path) -> None:
    with open_journal() as journal:
        journal.write(PHOTO, journal.read(PHOTO)[1], b"result", {})
    report = tmp_path / "out" / "report.jsonl"
    other = Photo(PurePosixPath("b.jpg"), PurePosixPath("b.png"))
    with report.open("ab") as file:
        file.write(b'{"file": "b.jpg", "stat')
    with open_journal() as journal:
        assert journal.is_done(PHOTO)
        journal.fail(other, {"detail": "no"})
    with open_journal() as journal:
        assert journal.records["b.jpg"]["problem"] == {"detail": "no"}
        journal.finish([other.file, PHOTO.file])
    assert [json.loads(line)["file"] for line in report.read_text().splitlines()] == [
        "b.jpg",
        "a.jpg",
    ]


def test_result_of_a_photo_that_became_unreadable_goes(open_journal, tmp_path) -> None:
    with open_journal() as journal:
        journal.write(PHOTO, journal.read(PHOTO)[1], b"result", {})
        journal.fail(PHOTO, {"detail": "no"})
    assert not (tmp_path / "out" / "a.png").exists()


def test_folder_belongs_to_one_run(open_journal) -> None:
    with open_journal(), pytest.raises(OSError, match="another `matte folder`"), open_journal():
        pass


def test_runs_that_were_interrupted_end_in_the_same_files(portrait, tmp_path) -> None:
    """200 photos: once in one go; once ended by SIGINT, then by SIGKILL, and taken up again."""
    save_photos(tmp_path / "in", portrait, 200)

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "cli", "folder", "in", out, "--json", *QUICK],
            cwd=tmp_path,
            env=make_environ() | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def count() -> int:
        return len(list((tmp_path / "twice").rglob("*.png")))

    with start("once") as whole:
        printed, errors = whole.communicate()
    assert whole.returncode == 0, errors
    assert json.loads(printed)["done"] == 200
    for number, least in ((signal.SIGINT, 5), (signal.SIGKILL, 40)):
        with start("twice") as process:
            wait_until(lambda least=least: count() >= least, timeout_s=120)
            os.killpg(process.pid, number)  # to all of them, as a terminal does
            _, errors = process.communicate()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert errors == "error: interrupted; the same command goes on from here\n"
        assert least <= count() < 200
    with start("twice") as process:
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    counts = json.loads(printed)
    assert counts["skipped"] >= 40 and counts["done"] + counts["skipped"] == 200
    assert read_results(tmp_path / "twice") == read_results(tmp_path / "once")
    assert [*read_report(tmp_path / "twice")] == [*read_report(tmp_path / "once")]
