import json
import math
from pathlib import Path

import pytest

from tests.onnx_files import write_model
from training.commands.bench import count_checkpoint, count_onnx, main
from training.network.checkpoint import save_checkpoint
from training.network.fast import FastNet
from training.network.modnet import MODNet

DEFAULT_WEIGHTS = Path(__file__).parents[3] / "service" / "weights" / "modnet.onnx"


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """A checkpoint of the network as released, weights at random."""
    path = tmp_path_factory.mktemp("full") / "modnet.pt"
    save_checkpoint(path, MODNet())
    return path


def test_cost_is_the_published_one(full_size):
    cost = count_checkpoint(full_size, 512)
    assert cost.parameters == 6_487_075
    assert cost.macs / 1e9 == pytest.approx(15.47, abs=0.005)


def test_onnx_file_computes_what_its_checkpoint_does(full_size):
    for size in (320, 512):
        assert count_onnx(DEFAULT_WEIGHTS, size).macs == count_checkpoint(full_size, size).macs
    # Without the training heads and the folded half of each norm.
    assert 6.4e6 < count_onnx(DEFAULT_WEIGHTS, 512).parameters < 6_476_609


def test_cost_of_a_smaller_network(tmp_path):
    model = MODNet(in_channels=4, width=0.125, hr_channels=4)
    save_checkpoint(tmp_path / "a.pt", model)
    cost = count_checkpoint(tmp_path / "a.pt", 64)
    assert cost.parameters == sum(math.prod(p.shape) for p in model.parameters())
    # Convolutions grow with the area, the two products of the SE block do not.
    larger = count_checkpoint(tmp_path / "a.pt", 128)
    se_block = sum(math.prod(p.shape) for p in model.lr_branch.se_block.parameters())
    assert larger.macs - se_block == 4 * (cost.macs - se_block)


def test_table_and_json(capsys, tmp_path):
    save_checkpoint(tmp_path / "a.pt", MODNet(width=0.125, hr_channels=4))
    write_model(tmp_path / "b.onnx")
    models = [part for name in ("a.pt", "b.onnx") for part in ("--model", str(tmp_path / name))]
    options = ["--sizes", "32,64", "--runs", "3", "--threads", "1", "--json"]
    assert main([*models, *options, str(tmp_path / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4 + 1 + 1
    assert lines[0].startswith("| model")
    assert "a.pt" in lines[2] and "32x32" in lines[2] and "torch, CPU, 1 thread" in lines[2]
    assert "b.onnx" in lines[5] and "64x64" in lines[5] and "onnxruntime, CPU" in lines[5]
    assert "the paper's figures" in lines[6] and "15.8 ms" in lines[6] and "1080Ti" in lines[6]
    assert lines[7].startswith("3 runs")
    records = json.loads((tmp_path / "out.json").read_text())
    assert [(r["model"], r["size"]) for r in records] == [
        (name, size) for name in ("a.pt", "b.onnx") for size in (32, 64)
    ]
    assert all(0 < record["fastest_ms"] <= record["median_ms"] for record in records)
    assert records[0]["file_bytes"] == (tmp_path / "a.pt").stat().st_size


def test_what_cannot_be_measured_is_one_line(capsys, tmp_path):
    (tmp_path / "a.pt").write_text("not a network")
    for name, words in {"none.pt": "No such file", "a.pt": "not a checkpoint"}.items():
        assert main(["--model", str(tmp_path / name)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


@pytest.mark.parametrize("sizes", ["100", "0", "256,", "a"])
def test_wrong_sizes_are_a_usage_error(capsys, sizes):
    with pytest.raises(SystemExit) as caught:
        main(["--model", "a.pt", "--sizes", sizes])
    assert caught.value.code == 2
    assert "multiple of 32" in capsys.readouterr().err


def test_fast_network_computes_far_less_than_modnet(tmp_path):
    macs = {}
    for kind in (MODNet, FastNet):
        save_checkpoint(tmp_path / "a.pt", kind(width=0.25))
        macs[kind] = count_checkpoint(tmp_path / "a.pt", 64).macs
    assert 0 < macs[FastNet] < macs[MODNet] / 5
