import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import export.pipeline
from cli.__main__ import COMMANDS
from cli.__main__ import main as matte
from export.__main__ import main
from service import __version__

ROOT = Path(__file__).parents[2]


def run_export(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "export", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_refused(result, *words):
    """One line on stderr that holds the words, no traceback."""
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert str(word) in result.stderr


def test_missing_checkpoint_is_one_line(tmp_path):
    result = run_export(tmp_path / "none.ckpt", tmp_path / "out.onnx")
    assert_refused(result, "error: ", tmp_path / "none.ckpt", "No such file")
    assert list(tmp_path.iterdir()) == []


def test_wrong_file_type_is_one_line(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff" + bytes(200))
    assert_refused(run_export(photo, tmp_path / "out.onnx"), photo, "not a checkpoint")
    assert list(tmp_path.iterdir()) == [photo]


@pytest.fixture
def checkpoint(tmp_path, tiny_path):
    (tmp_path / "in").mkdir()
    return Path(shutil.copy(tiny_path.with_suffix(".pt"), tmp_path / "in" / "tiny.pt"))


def refuse(capsys, *arguments):
    """Return the line with which the command, run in this process, refuses."""
    assert main([str(argument) for argument in arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_checkpoint_cut_short_is_refused(capsys, tmp_path, checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    out = tmp_path / "out.onnx"
    assert "broken or cut short" in refuse(capsys, checkpoint, out)
    assert list(tmp_path.iterdir()) == [checkpoint.parent]


def test_wrong_keys_are_named(capsys, tmp_path, checkpoint):
    torch.save({"weight": torch.zeros(1)}, checkpoint)
    line = refuse(capsys, checkpoint, tmp_path / "out.onnx")
    assert line.endswith("tiny.pt: missing key backbone.model.features.0.0.weight")
    assert list(tmp_path.iterdir()) == [checkpoint.parent]


def test_network_of_five_channels_is_refused(capsys, tmp_path, checkpoint):
    from training.network.checkpoint import save_checkpoint
    from training.network.modnet import MODNet

    save_checkpoint(checkpoint, MODNet(in_channels=5, width=0.125, hr_channels=4))
    assert "takes 5 channels" in refuse(capsys, checkpoint, tmp_path / "out.onnx")


def test_unwritable_targets_are_refused(capsys, tmp_path, checkpoint):
    assert "No such file" in refuse(capsys, checkpoint, tmp_path / "none" / "out.onnx")
    (tmp_path / "file").touch()
    assert "Not a directory" in refuse(capsys, checkpoint, tmp_path / "file" / "out.onnx")
    (tmp_path / "out.onnx").mkdir()
    assert "is a folder" in refuse(capsys, checkpoint, tmp_path / "out.onnx")
    assert "must end in .onnx" in refuse(capsys, checkpoint, tmp_path / "out.pt")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "file", "out.onnx"}


def test_failed_verification_leaves_older_files_alone(
    capsys, monkeypatch, tmp_path, tiny_path, checkpoint
):
    from tests.tiny_network import make_tiny_model
    from training.network.checkpoint import save_checkpoint

    def write_other_network(network, path, metadata):
        shutil.copy(tiny_path, path)

    monkeypatch.setattr(export.pipeline, "write_onnx", write_other_network)
    save_checkpoint(checkpoint, make_tiny_model(seed=1))
    out, report = tmp_path / "out.onnx", tmp_path / "out.json"
    out.write_text("old")
    report.write_text("old")
    assert "differs by" in refuse(capsys, checkpoint, out)
    assert out.read_text() == report.read_text() == "old"
    assert set(tmp_path.iterdir()) == {checkpoint.parent, out, report}


def test_ctrl_c_leaves_nothing(tmp_path, checkpoint):
    process = subprocess.Popen(
        [sys.executable, "-m", "export", str(checkpoint), str(tmp_path / "out.onnx")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stdout:
            if line.startswith("fold"):  # the next stage is the long one
                break
        assert [path.name for path in tmp_path.glob(".export-*")]
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == ["error: interrupted, nothing written"]
    assert list(tmp_path.iterdir()) == [checkpoint.parent]


@pytest.mark.parametrize("ref_size", ["0", "-32", "300", "big"])
def test_wrong_ref_size_is_a_usage_error(capsys, tmp_path, ref_size):
    with pytest.raises(SystemExit) as caught:
        main(["a.pt", str(tmp_path / "a.onnx"), "--ref-size", ref_size])
    assert caught.value.code == 2
    assert "multiple of 32" in capsys.readouterr().err


def test_help_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None;"
        "from export.__main__ import main; main(['--help'])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "--ref-size" in result.stdout and result.stderr == ""


def test_matte_passes_arguments_on(capsys, tmp_path):
    assert matte(["export", str(tmp_path / "none.pt"), str(tmp_path / "a.onnx")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_matte_help_lists_commands(capsys):
    assert matte(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in text and command.help in text


def test_matte_without_command_shows_help_and_fails(capsys):
    assert matte([]) == 2
    assert "usage: matte" in capsys.readouterr().err


@pytest.mark.parametrize("typed, nearest", [("exprot", "export"), ("server", "serve")])
def test_matte_names_the_nearest_command(capsys, typed, nearest):
    assert matte([typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert repr(typed) in line and repr(nearest) in line


def test_matte_names_all_commands_when_none_is_near(capsys):
    assert matte(["xyzzy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean" not in line and all(name in line for name in COMMANDS)


def test_matte_tells_its_version(capsys):
    assert matte(["--version"]) == 0
    assert capsys.readouterr().out == f"matte {__version__}\n"


def test_matte_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None;"
        "from cli.__main__ import main; sys.exit(main(['export', 'a.pt', 'a.onnx']))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert_refused(result, "torch", "`make setup`")


def test_matte_imports_nothing_heavy():
    code = (
        "import sys, cli.__main__ as c; c.main(['--help']);"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'fastapi', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"
