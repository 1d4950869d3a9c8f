"""Weights alone, in half precision: what comes back is the same network."""

from pathlib import Path

import pytest
import torch

from tests.tiny_network import make_tiny_model
from training.commands.pack import main
from training.network.checkpoint import load_model, save_checkpoint
from training.network.fast import FastNet
from training.network.modnet import MODNet


@pytest.fixture(scope="module", params=[MODNet, FastNet])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "best.pt"
    torch.manual_seed(1)
    save_checkpoint(path, request.param(), photos=5)
    return path


def test_packed_network_is_the_same_but_for_half_precision(checkpoint: Path, tmp_path: Path):
    out = tmp_path / "modnet.npz"
    assert main([str(checkpoint), str(out)]) == 0
    assert out.stat().st_size < 0.55 * checkpoint.stat().st_size
    before, after = load_model(checkpoint).state_dict(), load_model(out).state_dict()
    for key, value in before.items():
        expected = value.half().float() if value.dim() > 1 else value
        torch.testing.assert_close(after[key], expected, rtol=0, atol=0)


def test_packing_twice_changes_nothing(checkpoint: Path, tmp_path: Path):
    once, twice = tmp_path / "once.npz", tmp_path / "twice.npz"
    assert main([str(checkpoint), str(once)]) == main([str(once), str(twice)]) == 0
    assert once.read_bytes() == twice.read_bytes()


@pytest.mark.parametrize(("source", "says"), [("tiny.pt", "own architecture"), ("none.pt", "No")])
def test_what_cannot_be_packed_is_one_line(tmp_path: Path, capsys, source: str, says: str):
    save_checkpoint(tmp_path / "tiny.pt", make_tiny_model())
    out = tmp_path / "out.npz"
    assert main([str(tmp_path / source), str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
    assert not out.exists() and not list(tmp_path.glob("*.part"))
