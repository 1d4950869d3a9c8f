"""Weights alone, in half precision: what comes back is the same network."""

from pathlib import Path

import pytest
import torch

from cli.__main__ import main as matte
from tests.tiny_network import make_tiny_model
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
    assert matte(["pack", str(checkpoint), str(out)]) == 0
    assert out.stat().st_size < 0.55 * checkpoint.stat().st_size
    before, after = load_model(checkpoint).state_dict(), load_model(out).state_dict()
    for key, value in before.items():
        expected = value.half().float() if value.dim() > 1 else value
        torch.testing.assert_close(after[key], expected, rtol=0, atol=0)


def test_packing_twice_changes_nothing(checkpoint: Path, tmp_path: Path):
    once, twice = tmp_path / "once.npz", tmp_path / "twice.npz"
    assert (
        matte(["pack", str(checkpoint), str(once)]) == matte(["pack", str(once), str(twice)]) == 0
    )
    assert once.read_bytes() == twice.read_bytes()


def test_mean_of_checkpoints_lies_between_them(checkpoint: Path, tmp_path: Path):
    first = load_model(checkpoint)
    torch.manual_seed(2)
    other, out = tmp_path / "other.pt", tmp_path / "mean.npz"
    save_checkpoint(other, type(first)())
    more = ["--mean-with", str(other)]
    assert matte(["pack", str(checkpoint), str(out), *more, *more]) == 0
    mean, second = load_model(out).state_dict(), load_model(other).state_dict()
    for key, value in first.state_dict().items():
        if value.is_floating_point():
            expected = (value.double() + 2 * second[key].double()) / 3
            torch.testing.assert_close(mean[key].double(), expected, rtol=1e-3, atol=1e-6)


def test_what_one_checkpoint_lacks_is_the_mean_of_the_others(tmp_path: Path):
    paths = [tmp_path / name for name in ("first.pt", "second.pt", "mean.npz")]
    torch.manual_seed(3)
    first, second = FastNet(), FastNet()
    torch.save({k: v for k, v in first.state_dict().items() if "aux" not in k}, paths[0])
    save_checkpoint(paths[1], second)
    for source, other in (paths[:2], paths[1::-1]):
        assert matte(["pack", str(source), str(paths[2]), "--mean-with", str(other)]) == 0
        mean = load_model(paths[2])
        close = {"rtol": 1e-3, "atol": 1e-6}
        torch.testing.assert_close(mean.aux.weight, second.aux.weight, **close)
        expected = (first.last.weight + second.last.weight) / 2
        torch.testing.assert_close(mean.last.weight, expected, **close)


def test_no_mean_of_two_networks(checkpoint: Path, tmp_path: Path, capsys):
    other, out = tmp_path / "other.pt", tmp_path / "mean.npz"
    save_checkpoint(other, FastNet() if load_model(checkpoint).name == "modnet" else MODNet())
    assert matte(["pack", str(checkpoint), str(out), "--mean-with", str(other)]) == 1
    assert "not the same network" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(("source", "says"), [("tiny.pt", "own architecture"), ("none.pt", "No")])
def test_what_cannot_be_packed_is_one_line(tmp_path: Path, capsys, source: str, says: str):
    save_checkpoint(tmp_path / "tiny.pt", make_tiny_model())
    out = tmp_path / "out.npz"
    assert matte(["pack", str(tmp_path / source), str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
    assert not out.exists() and not list(tmp_path.glob("*.part"))
