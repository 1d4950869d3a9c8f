import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import training
from training.config import load_config
from training.loop.report import read_log
from training.loop.stop import Stop
from training.loop.train import train
from training.network.checkpoint import load_model, save_checkpoint
from training.network.modnet import MODNet

TINY = Path(training.__file__).parent / "configs" / "tiny.toml"


class StopAfter(Stop):
    """A reason to stop that comes after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(None)
        self.steps = steps

    @property
    def reason(self) -> str:
        self.steps -= 1
        return "" if self.steps else "enough steps"


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def make_config(cache: str, **changes):
    """Return a config of two stages, two epochs of four steps each."""
    config = load_config(TINY)
    stages = tuple(
        dataclasses.replace(
            stage, epochs=2, batch_size=2, sizes=((64, 64),), warmup=0.2, grad_clip=1.0
        )
        for stage in config.stages
    )
    data = dataclasses.replace(config.data, synthetic=12, cache=cache)
    model = dataclasses.replace(config.model, width=0.05, hr_channels=4)
    validation = dataclasses.replace(config.validation, ref_size=64, sheet_photos=1)
    config = dataclasses.replace(
        config, stages=stages, data=data, model=model, validation=validation, epoch_photos=8
    )
    return dataclasses.replace(config, log_steps=2, **changes)


def run(config, out: Path, stop: Stop | None = None, is_resumed: bool = False) -> str:
    """Train; return what was printed."""
    text = io.StringIO()
    train(config, out, is_resumed, stop or Stop(None), Console(file=text, width=200))
    return text.getvalue()


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_equal(one, two) -> None:
    """Compare nested records to the bit."""
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    else:
        assert one == two


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory) -> Path:
    """Return the folder of a run that was not stopped."""
    out = tmp_path_factory.mktemp("straight")
    run(make_config(cache), out)
    return out


@pytest.mark.parametrize("stops", [(3,), (8,), (11, 3)], ids=str)
def test_resumed_run_is_the_run_that_was_not_stopped(cache, tmp_path, straight, stops):
    config, is_resumed = make_config(cache), False
    for steps in stops:
        assert "stopped: enough steps" in run(config, tmp_path, StopAfter(steps), is_resumed)
        is_resumed = True
    assert "finished" in run(config, tmp_path, is_resumed=True)
    for name in ("last.pt", "best.pt"):
        assert_equal(read(tmp_path / name), read(straight / name))
    rows = [read_log(folder / "log.csv") for folder in (tmp_path, straight)]
    scores = [[row for row in table if row["val_mad"]] for table in rows]
    assert scores[0] == scores[1]


def test_run_does_not_depend_on_the_workers(cache, tmp_path, straight):
    config = make_config(cache)
    data = dataclasses.replace(config.data, workers=2)
    run(dataclasses.replace(config, data=data), tmp_path)
    assert_equal(read(tmp_path / "best.pt"), read(straight / "best.pt"))


def test_run_leaves_what_people_look_at(straight):
    names = {path.name for path in straight.iterdir()}
    assert names == {"best.pt", "last.pt", "log.csv", "curves.png", "sheet.png"}
    rows = read_log(straight / "log.csv")
    steps = [(row["stage"], int(row["step"])) for row in rows if not row["val_mad"]]
    assert steps == [(stage, step) for stage in ("semantic", "all") for step in (2, 4, 6, 8)]
    assert [int(row["photos"]) for row in rows if row["val_mad"]] == [8, 16, 24, 32]
    assert all((row["detail"] == "") == (row["stage"] == "semantic") for row in rows[:2])


def test_best_weights_are_the_averaged_ones_and_load(straight):
    model = load_model(straight / "best.pt")
    assert model.architecture["width"] == 0.05 and not model.training
    record = read(straight / "best.pt")
    last = read(straight / "last.pt")
    rows = [row for row in read_log(straight / "log.csv") if row["val_mad"]]
    scored = [float(row["val_mad"]) for row in rows if row["stage"] == "all"]
    assert record["scores"]["mad"] == min(scored) == last["counters"]["best_mad"]
    assert not torch.equal(
        last["model"]["backbone.model.features.0.0.weight"],
        last["average"]["backbone.model.features.0.0.weight"],
    )


def test_first_stage_moves_the_low_resolution_branch_alone(cache, tmp_path):
    config = make_config(cache)
    torch.manual_seed(config.seed)
    start = MODNet(3, 0.05, 4).state_dict()
    run(config, tmp_path, StopAfter(8))
    after = read(tmp_path / "last.pt")["model"]
    moved = {key.split(".")[0] for key in start if not torch.equal(start[key], after[key])}
    assert moved == {"backbone", "lr_branch"}
    run(config, tmp_path, is_resumed=True)
    end = read(tmp_path / "last.pt")["model"]
    assert not torch.equal(
        end["f_branch.conv_f.1.layers.0.weight"], start["f_branch.conv_f.1.layers.0.weight"]
    )


@pytest.mark.parametrize("changes", [{"detail_loss": "bce"}, {"precision": "bfloat16"}], ids=str)
def test_variants_train(cache, tmp_path, changes):
    config = make_config(cache, **changes, channels_last=True)
    out = run(dataclasses.replace(config, stages=config.stages[1:]), tmp_path)
    assert "finished" in out
    model = load_model(tmp_path / "best.pt")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_sgd_of_the_paper_trains(cache, tmp_path):
    config = make_config(cache)
    stage = dataclasses.replace(
        config.stages[1], optimizer="sgd", schedule="step", step_epochs=1, lr=0.01, warmup=0.0
    )
    run(dataclasses.replace(config, stages=(stage,)), tmp_path)
    rates = [float(row["lr"]) for row in read_log(tmp_path / "log.csv") if row["lr"]]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_trimap_goes_in_as_a_fourth_channel_and_starts_at_zero(cache, tmp_path):
    config = make_config(cache)
    torch.manual_seed(5)
    start = MODNet(3, 0.05, 4)
    save_checkpoint(tmp_path / "start.pt", start)
    model = dataclasses.replace(config.model, trimap_input=True, init=str(tmp_path / "start.pt"))
    config = dataclasses.replace(config, model=model, stages=config.stages[1:])
    run(config, tmp_path / "out", StopAfter(1))
    stem = read(tmp_path / "out" / "last.pt")["average"]["backbone.model.features.0.0.weight"]
    assert stem.shape[1] == 4
    run(config, tmp_path / "out", is_resumed=True)
    model = load_model(tmp_path / "out" / "best.pt")
    assert model.architecture["in_channels"] == 4
    assert model.backbone.model.features[0][0].weight[:, 3].abs().max() > 0


def test_backbone_alone_may_be_given(cache, tmp_path):
    config = make_config(cache)
    torch.manual_seed(5)
    backbone = {k: v.numpy() for k, v in MODNet(3, 0.05, 4).backbone.model.state_dict().items()}
    np.savez(tmp_path / "backbone.npz", **backbone)
    model = dataclasses.replace(config.model, init=str(tmp_path / "backbone.npz"))
    stage = dataclasses.replace(config.stages[0], lr=1e-30)
    run(dataclasses.replace(config, model=model, stages=(stage,)), tmp_path / "out", StopAfter(1))
    weights = read(tmp_path / "out" / "last.pt")["model"]
    key = "features.3.conv.0.weight"
    np.testing.assert_allclose(weights[f"backbone.model.{key}"], backbone[key], rtol=1e-5)


def test_resume_goes_on_with_an_added_stage(cache, tmp_path):
    config = make_config(cache)
    run(dataclasses.replace(config, stages=config.stages[:1]), tmp_path)
    assert not (tmp_path / "best.pt").exists()  # the matte has not been trained
    assert "finished" in run(config, tmp_path, is_resumed=True)
    assert load_model(tmp_path / "best.pt")


def test_tiny_config_lowers_the_loss(cache, tmp_path):
    config = load_config(TINY)
    data = dataclasses.replace(config.data, cache=cache)
    run(dataclasses.replace(config, data=data), tmp_path)
    rows = [row for row in read_log(tmp_path / "log.csv") if row["matte"]]
    for name, factor in {"detail": 0.75, "matte": 0.7}.items():
        assert float(rows[-1][name]) < factor * float(rows[0][name])
    scores = [row for row in read_log(tmp_path / "log.csv") if row["val_mad"]]
    assert float(scores[-1]["val_mad"]) < 0.3
