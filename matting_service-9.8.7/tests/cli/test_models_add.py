"""`matte models add`: networks of others described, tried, and served under their name."""

import re
import tomllib
from pathlib import Path

import pytest

from cli.__main__ import main as matte
from tests.clips import make_clip
from tests.helpers import ROOT, decode
from tests.networks import U2NETP, take
from tests.onnx_files import write_model

EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "models.md").read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch, portrait_jpeg: bytes) -> Path:
    """Where a user stands: a photo, a clip, an ONNX file without metadata."""
    (tmp_path / "portrait.jpg").write_bytes(portrait_jpeg)
    make_clip(tmp_path / "clip.mp4", seconds=0.2, fps=10, size=(160, 128))
    write_model(tmp_path / "other.onnx", metadata={}, input_name="x.1", output_name="1959")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATTING_DECODERS", "1")
    return tmp_path


def add(*arguments: str) -> int:
    return matte(["models", "add", *arguments])


def test_examples_of_the_page_work_with_the_real_network(folder, capsys):
    take(U2NETP, folder, "u2net").with_suffix(".toml").unlink()
    commands = [line.split() for block in EXAMPLES for line in block.splitlines()]
    assert len(commands) == 2
    for program, *arguments in commands:
        assert program == "matte" and matte(arguments) == 0
    assert "u2netp, 320 x 320 on" in (printed := capsys.readouterr().out)
    assert re.search(r"network +u2netp, ", printed)
    matte_png = decode((folder / "portrait-u2netp.png").read_bytes())
    assert matte_png.shape == (512, 512)
    assert matte_png[80:170, 180:260].mean() > 220 and matte_png[0:60, 80:150].mean() < 30
    assert (folder / "alpha.mp4").stat().st_size > 0


def test_description_names_the_model_and_its_licence(folder):
    assert add("other.onnx", "--like", "modnet", "--name", "mine", "--licence", "MIT") == 0
    said = tomllib.loads((folder / "other.toml").read_text())
    assert (said["name"], said["licence"], said["mean"]) == ("mine", "MIT", 0.5)


def read_refusal(capsys) -> str:
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ") and "\n" not in text
    return text


def test_description_that_is_there_is_kept_unless_forced(folder, capsys):
    (folder / "other.toml").write_text("mine")
    assert add("other.onnx", "--like", "modnet") == 1
    assert "--force" in read_refusal(capsys)
    assert (folder / "other.toml").read_text() == "mine"
    assert add("other.onnx", "--like", "modnet", "--force") == 0
    assert tomllib.loads((folder / "other.toml").read_text())["name"] == "other"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("other.onnx", "--like", "rvm"), "there is no input `r1i`"),
        (("other.onnx", "--like", "modnet", "--name", "a b"), "name"),
        (("other.onnx", "--like", "modnet", "--photo", "no.jpg"), "no.jpg"),
        (("gone.onnx", "--like", "modnet"), "gone.onnx"),
        (("portrait.jpg", "--like", "modnet"), "not an ONNX file"),
    ],
)
def test_what_does_not_work_leaves_no_description(folder, capsys, arguments, words):
    assert add(*arguments) == 1
    assert words in read_refusal(capsys)
    assert not list(folder.glob("*.toml"))
