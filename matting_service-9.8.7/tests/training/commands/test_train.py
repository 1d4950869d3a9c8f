import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import training
from training.commands.train import main
from training.data.synthetic import draw_data_set
from training.loop.stop import Stop

CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.toml"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def read_step(out: Path) -> int:
    return torch.load(out / "last.pt", weights_only=True)["counters"]["step"]


def write_toml(tmp_path: Path, cache: str, text: str = "", stage: str = "lr = 4e-3") -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f"""
epoch_photos = 8
log_steps = 2
threads = 1
{text}
[model]
width = 0.05
hr_channels = 4
[data]
synthetic = 12
workers = 0
cache = "{cache}"
[validation]
ref_size = 64
[[stages]]
name = "all"
epochs = 1
batch_size = 2
sizes = [[64, 64]]
{stage}
""")
    return path


def test_loss_that_is_no_number_stops_and_keeps_the_batch(cache, tmp_path, capsys):
    config = write_toml(tmp_path, cache, stage="lr = 1e30")
    assert main([str(config), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: step 1 of all: semantic nan") and error.count("\n") == 1
    assert str(tmp_path / "out" / "bad_batch.npz") in error
    with np.load(tmp_path / "out" / "bad_batch.npz") as arrays:
        assert arrays["image"].shape == (2, 3, 64, 64) and arrays["step"] == 1
        assert arrays["alpha"].shape == arrays["trimap"].shape == (2, 1, 64, 64)


def test_problems_are_told_in_one_line(cache, tmp_path, capsys):
    config, out = write_toml(tmp_path, cache), str(tmp_path / "out")
    assert main([str(config), "--out", out]) == 0
    cases = {
        (str(tmp_path / "none.toml"),): "none.toml: No such file or directory",
        (str(config), "--data", str(tmp_path / "none")): "none: no such folder",
        (str(config), "--out", out): "last.pt exists: go on with --resume",
        (str(config), "--resume", "--out", str(tmp_path)): "last.pt: No such file or directory",
    }
    capsys.readouterr()
    for arguments, problem in cases.items():
        assert main(list(arguments)) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and problem in error and error.count("\n") == 1


def test_resume_refuses_another_config(cache, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main([str(write_toml(tmp_path, cache)), "--out", out]) == 0
    assert main([str(write_toml(tmp_path, cache, "seed = 9")), "--out", out, "--resume"]) == 1
    assert "last.pt: seed was 0 and is now 9" in capsys.readouterr().err


def test_data_of_the_command_line_replaces_that_of_the_config(cache, tmp_path, capsys):
    folder = draw_data_set(tmp_path, 6)
    config, out = write_toml(tmp_path, cache), str(tmp_path / "out")
    assert main([str(config), "--out", out, "--data", str(folder)]) == 0
    assert "5 photos to train, 1 to validate, 6 backgrounds" in capsys.readouterr().out


def test_deadline_saves_and_stops(cache, tmp_path, capsys):
    arguments = [str(write_toml(tmp_path, cache)), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--max-minutes", "1e-9"]) == 0
    assert "stopped: 1e-09 minutes are over" in capsys.readouterr().out
    assert read_step(tmp_path / "out") == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_is_a_reason_to_stop_once(name):
    before = signal.getsignal(signal.Signals[name])
    with Stop(None) as stop:
        assert not stop.reason
        os.kill(os.getpid(), signal.Signals[name])
        assert stop.reason == name
        assert signal.getsignal(signal.Signals[name]) is before
    assert signal.getsignal(signal.Signals[name]) is before


def test_process_that_is_told_to_end_saves_first(cache, tmp_path):
    config = write_toml(tmp_path, cache)
    text = config.read_text().replace("epochs = 1", "epochs = 10000")
    config.write_text(text.replace("workers = 0", "workers = 1"))
    command = [sys.executable, "-m", "cli", "train", str(config), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("all 2/"):
                break
        process.terminate()
        assert "stopped: SIGTERM" in process.stdout.read()
    assert process.returncode == 0
    assert read_step(tmp_path / "out") >= 2


@pytest.mark.slow  # one step of the whole network, at its size
def test_own_photos_train_with_the_shipped_config(tmp_path, capsys, monkeypatch):
    root = Path(training.__file__).parent
    (tmp_path / "training").symlink_to(root)
    drawn = draw_data_set(tmp_path, 4)
    (drawn / "manifest.csv").unlink()
    shutil.rmtree(drawn / "backgrounds")
    monkeypatch.chdir(tmp_path)
    arguments = ["training/configs/own.toml", "--data", drawn.name, "--max-minutes", "1e-9"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 photos to train, 1 to validate, 0 backgrounds" in printed and "stopped" in printed
    assert read_step(tmp_path / "runs" / "own") == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_that_needs_more_than_the_repository_says_so_first(path):
    first, *rest = path.read_text().splitlines()
    assert ("../shared" in "\n".join(rest)) == first.startswith("# Needs ../shared, which is not")
