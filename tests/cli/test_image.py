"""`matte image` on a real photo with the real network."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.__main__ import main as matte
from tests.helpers import ROOT, decode, post_image

QUICK = ("--device", "cpu", "--ref-size", "64")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait_jpeg: bytes, portrait) -> Path:
    """Where the user stands: `photo.jpg`, and `small.png` of an eighth of its side."""
    (tmp_path / "photo.jpg").write_bytes(portrait_jpeg)
    Image.fromarray(portrait).resize((64, 64)).save(tmp_path / "small.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return matte(["image", *arguments, *QUICK])


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_result_is_the_one_that_the_service_makes(client, folder, portrait_jpeg, capsys) -> None:
    arguments = ["image", "photo.jpg", "cut.webp", "--ref-size", "64", "--json"]
    assert matte([*arguments, "--output", "cutout", "--crop"]) == 0
    asked = {"output": "cutout", "crop": "true", "format": "webp", "ref_size": 64}
    served = post_image(client, portrait_jpeg, **asked)
    assert (folder / "cut.webp").read_bytes() == served.content
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["content_type"]) == ("cut.webp", "image/webp")
    assert told["bytes"] == len(served.content)
    assert str(told["width"]) == served.headers["x-width"]
    assert told["person"] is (served.headers["x-person"] == "yes")
    assert told["provider"] == served.headers["x-provider"]


def test_background_alone_asks_for_a_composite(folder, capsys) -> None:
    assert run("photo.jpg", "teal.jpg", "--background", "#008080") == 0
    with Image.open("teal.jpg") as image:
        assert image.format == "JPEG" and image.getpixel((5, 5))[1] > 100
    printed = capsys.readouterr()
    assert "teal.jpg" in printed.out and "modnet-fast, CPUExecutionProvider" in printed.out
    assert printed.err == ""


def test_photo_comes_from_a_pipe_and_goes_into_one(folder, monkeypatch, portrait_jpeg) -> None:
    pipes = [io.TextIOWrapper(io.BytesIO(content)) for content in (portrait_jpeg, b"")]
    monkeypatch.setattr(sys, "stdin", pipes[0])
    monkeypatch.setattr(sys, "stdout", pipes[1])
    assert matte(["image", "-", "-", "--size", "preview", "--device", "cpu"]) == 0
    alpha = decode(pipes[1].buffer.getvalue())
    assert alpha.shape == (500, 500) and alpha[78:166, 176:254].mean() > 200


def test_folder_takes_the_name_of_the_photo(folder) -> None:
    (folder / "results").mkdir()
    assert run("small.png", "results", "--output", "bundle") == 0
    assert list_names(folder / "results") == ["small.zip"]


def test_file_that_is_there_is_overwritten_by_force_only(folder, capsys) -> None:
    (folder / "out.png").write_bytes(b"mine")
    assert run("small.png", "out.png") == 1
    assert capsys.readouterr().err == "error: out.png: is there already; --force overwrites\n"
    assert (folder / "out.png").read_bytes() == b"mine"
    assert run("small.png", "out.png", "--force") == 0
    assert decode((folder / "out.png").read_bytes()).shape == (64, 64)


@pytest.mark.parametrize(
    ("code", "arguments", "text"),
    [
        (1, ["none.jpg", "out.png"], "none.jpg: No such file"),
        (1, [".", "out.png"], ".: is a folder; `matte folder` takes folders"),
        (1, ["clip.mp4", "out.png"], "the file is a clip; `matte video` takes clips"),
        (1, ["text.jpg", "out.png"], "none of JPEG, PNG"),
        (1, ["photo.jpg", "none/out.png"], "none: No such file"),
        (1, ["photo.jpg", "out.png", "--background-file", "none.png"], "none.png: No such file"),
        (2, ["photo.jpg", "out.xyz"], "no results that end in .xyz; end the name in .png"),
        (2, ["photo.jpg", "out"], "end the name in .png"),
        (2, ["photo.jpg", "out.png", "--format", "webp"], "ends in .png, and format is webp"),
        (2, ["photo.jpg", "out.jpg", "--output", "cutout"], "JPEG cannot carry alpha"),
        (2, ["photo.jpg", "out.png", "--crop-margin", "5%"], "crop_margin needs crop=true"),
        (2, ["photo.jpg", "out.png", "--feather", "1000"], "feather: "),
        (2, ["photo.jpg", "out.png", "--output", "alfa"], "--output"),
        (2, ["photo.jpg", "out.png", "--model", "nomodel"], "there is no model `nomodel`"),
        (2, ["photo.jpg", "out.png", "--fether", "3"], "--feather"),
        (2, ["photo.jpg"], "OUT"),
    ],
)
def test_refusal_is_one_line_and_leaves_nothing(
    folder: Path, capsys, code: int, arguments: list[str], text: str
) -> None:
    (folder / "text.jpg").write_text("hello\n" * 100)
    shutil.copy(ROOT / "examples" / "clip.mp4", folder)
    assert run(*arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and text in line
    assert list_names(folder) == ["clip.mp4", "photo.jpg", "small.png", "text.jpg"]
