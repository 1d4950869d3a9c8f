import json
from pathlib import Path

import pytest
import torch

from tests.clips import make_clip
from tests.tiny_network import make_tiny_model
from training.commands.adapt import main
from training.network.checkpoint import load_model, save_checkpoint
from training.network.fast import FastNet

REF_SIZE = 96


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "portrait.mp4"
    return make_clip(path, seconds=1, fps=10, size=(192, 144), tone=False)


def test_command_writes_a_checkpoint_and_a_report(clip: Path, tmp_path: Path, capsys) -> None:
    model, out, report = tmp_path / "tiny.pt", tmp_path / "adapted.pt", tmp_path / "report.json"
    save_checkpoint(model, make_tiny_model())
    options = [f"--model={model}", f"--out={out}", "--epochs=2", "--lr=1e-3", "--threads=1"]
    code = main([str(clip), *options, f"--ref-size={REF_SIZE}", f"--json={report}"])
    assert code == 0
    table = capsys.readouterr().out
    assert table.count("| semantic") == 2 and table.count("| flicker") == 2
    measured = json.loads(report.read_text())
    assert measured["kept_after"]["semantic"] < measured["kept_before"]["semantic"]
    weights = load_model(out).state_dict()
    assert not torch.equal(
        weights["f_branch.conv_f.1.layers.0.bias"],
        load_model(model).state_dict()["f_branch.conv_f.1.layers.0.bias"],
    )


@pytest.mark.parametrize("content", [None, b"hello"])
def test_bad_clip_is_one_line_and_nothing_is_written(tmp_path: Path, capsys, content) -> None:
    model, path, out = tmp_path / "tiny.pt", tmp_path / "clip.mp4", tmp_path / "out.pt"
    save_checkpoint(model, make_tiny_model())
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), f"--model={model}", f"--out={out}"]) != 0
    error = capsys.readouterr().err
    assert error == f"error: {path}: not a readable clip\n"
    assert not out.exists()


def test_fast_network_is_refused(clip: Path, tmp_path: Path, capsys) -> None:
    model, out = tmp_path / "fast.pt", tmp_path / "out.pt"
    save_checkpoint(model, FastNet(width=0.1))
    assert main([str(clip), f"--model={model}", f"--out={out}"]) == 1
    error = capsys.readouterr().err
    assert error == f"error: {model}: has no detail branch, which SOC needs\n"
