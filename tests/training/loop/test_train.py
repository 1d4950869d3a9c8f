import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import StopAfter, assert_equal, change, change_stage, make_config, read, run

from training.data.sampling import PhotoErrors
from training.data.synthetic import draw_data_set
from training.loop.report import read_log
from training.loop.state import RunState, load_teacher, make_model
from training.loop.step import ask_teacher
from training.loop.stop import TrainError
from training.loop.train import has_bfloat16
from training.network.checkpoint import CheckpointError, load_model, save_checkpoint
from training.network.fused_norm import BuildError
from training.network.modnet import MODNet


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory) -> Path:
    """Return the folder of a run that was not stopped."""
    out = tmp_path_factory.mktemp("straight")
    run(make_config(cache), out)
    return out


@pytest.mark.parametrize("stops", [(3, 5), (11, 3)], ids=str)
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


def test_run_does_not_depend_on_the_workers(cache, tmp_path):
    config = change_stage(make_config(cache), 1, epochs=1)
    for workers in (0, 2):
        run(change(config, "data", workers=workers), tmp_path / str(workers))
    assert_equal(*(read(tmp_path / workers / "best.pt") for workers in ("0", "2")))


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


def find_moved(before: dict, after: dict) -> set[str]:
    """Return the first two names of the tensors that changed, counters left out."""
    keys = {key for key in before if not key.endswith("num_batches_tracked")}
    return {".".join(k.split(".")[:2]) for k in keys if not torch.equal(before[k], after[k])}


def test_detail_and_fusion_train_alone(cache, tmp_path):
    config = change_stage(make_config(cache), 1, branches="hr")
    torch.manual_seed(config.seed)
    start = MODNet(3, 0.05, 4).state_dict()
    run(config, tmp_path)
    moved = find_moved(start, read(tmp_path / "last.pt")["model"])
    assert {name.split(".")[0] for name in moved} == {"hr_branch", "f_branch"}
    assert (tmp_path / "best.pt").exists()


def test_first_blocks_stay_frozen_with_their_norms(cache, tmp_path):
    config = change_stage(make_config(cache), 0, frozen_blocks=5)
    torch.manual_seed(config.seed)
    start = {k: v for k, v in MODNet(3, 0.05, 4).state_dict().items() if k.startswith("lr_branch")}
    run(config, tmp_path)
    after = read(tmp_path / "last.pt")["model"]
    layers = {
        int(key.split(".")[4])
        for key, value in start.items()
        if "backbone" in key and "num_batches" not in key and not torch.equal(value, after[key])
    }
    assert layers == set(range(5, 19))


def make_fast_config(cache: str, **changes):
    config = change_stage(make_config(cache, **changes), 1, hard_cells=0.5, lr=3e-3)
    return change(config, "model", network="fast", width=0.1)


def test_fast_network_trains_resumes_and_goes_on_from_its_weights(cache, tmp_path):
    config = change(make_fast_config(cache), "data", hard_cap=4.0, paste_share=0.2)
    run(config, tmp_path / "straight")
    for steps in (3, 4):  # in the midst of an epoch, and at the end of one
        run(config, tmp_path / "resumed", StopAfter(steps), is_resumed=steps == 4)
    run(config, tmp_path / "resumed", is_resumed=True)
    last = read(tmp_path / "straight" / "last.pt")
    assert_equal(read(tmp_path / "resumed" / "last.pt"), last)
    assert last["network"] == "fast"
    torch.save(last["average"], tmp_path / "weights.pt")
    config = change(config, "model", init=str(tmp_path / "weights.pt"))
    config = change_stage(config, 0, lr=1e-30, weight_decay=0.0)
    run(config, tmp_path / "next", StopAfter(1))
    after = read(tmp_path / "next" / "last.pt")["model"]
    for key in ("last.weight", "aux.bias", "features.17.conv.6.weight"):
        torch.testing.assert_close(after[key], last["average"][key])


def test_hard_photos_are_chosen_by_their_errors(cache, tmp_path):
    config = change(make_fast_config(cache), "data", hard_cap=4.0, paste_share=0.0, empty_share=0.0)
    run(config, tmp_path, StopAfter(6))
    errors = read(tmp_path / "last.pt")["errors"]
    drawn, latest = errors["drawn"], errors["latest"]
    assert 0 < (drawn >= 0).sum() <= 8 and (latest != drawn).any()
    assert drawn[drawn >= 0].max() < 1


def test_fast_network_takes_the_encoder_of_a_modnet(cache, tmp_path):
    torch.manual_seed(5)
    donor = MODNet(3, 0.1, 4)
    save_checkpoint(tmp_path / "donor.pt", donor)
    config = change(make_fast_config(cache), "model", init=str(tmp_path / "donor.pt"))
    run(change_stage(config, 0, lr=1e-30), tmp_path / "out", StopAfter(1))
    after = read(tmp_path / "out" / "last.pt")["model"]["features.17.conv.6.weight"]
    torch.testing.assert_close(after, donor.encoder[17].conv[6].weight.detach())


def test_fused_norms_change_rounding_alone(cache, tmp_path):
    config = change_stage(make_config(cache, channels_last=True), 1)
    rows = []
    for is_fused in (False, True):
        out = tmp_path / str(is_fused)
        run(dataclasses.replace(config, fused_norms=is_fused, log_steps=1), out, StopAfter(1))
        rows += read_log(out / "log.csv")
    for name in ("semantic", "detail", "matte"):
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), rel=1e-4)


def test_missing_compiler_is_said_and_training_goes_on(cache, tmp_path, monkeypatch):
    def fail() -> None:
        raise BuildError("c++: No such file or directory")

    monkeypatch.setattr("training.loop.train.load_kernel", fail)
    config = change_stage(make_config(cache, fused_norms=True), 1)
    text = run(config, tmp_path, StopAfter(1))
    assert "norms are not fused, which is slower: c++: No such file" in text


def test_scores_are_told_for_each_data_set(cache, tmp_path):
    folder = draw_data_set(tmp_path, 6)
    config = change(make_config(cache), "data", folders=(str(folder),))
    text = run(change_stage(config, 1), tmp_path / "out")
    rows = [row for row in read_log(tmp_path / "out" / "log.csv") if row["val_mad"]]
    assert [row["data_set"] for row in rows[:3]] == ["", "synthetic-6", "synthetic-12"]
    assert "validation of synthetic-6: mad" in text


def test_log_tells_what_a_photo_costs(straight):
    rows = [row for row in read_log(straight / "log.csv") if row["lr"]]
    assert all(float(row["core_ms"]) > float(row["sample_ms"]) > 0 for row in rows[1:])


def test_mattes_of_a_teacher_are_mixed_into_the_labels(cache, tmp_path):
    torch.manual_seed(5)
    teacher = MODNet(3, 0.05, 4).eval()
    save_checkpoint(tmp_path / "teacher.pt", teacher)
    config = change(
        make_fast_config(cache), "model", teacher=str(tmp_path / "teacher.pt"), teacher_share=0.25
    )
    run = RunState(make_model(config), config, torch.device("cpu"), PhotoErrors([]))
    image, alpha = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = 0.75 * alpha + 0.25 * teacher(image)[2]
    torch.testing.assert_close(ask_teacher(run, image, alpha, config), expected)
    save_checkpoint(tmp_path / "teacher.pt", MODNet(4, 0.05, 4))
    with pytest.raises(CheckpointError, match="a teacher must do without a trimap"):
        load_teacher(config, torch.device("cpu"))


def test_run_that_breaks_off_has_been_saved_in_between(cache, tmp_path):
    config = change_stage(make_config(cache, save_minutes=1e-9), 1, lr=1e30, grad_clip=0.0)
    with pytest.raises(TrainError, match="step 1 of all"):
        run(config, tmp_path)
    assert read(tmp_path / "last.pt")["counters"]["step"] == 1


@pytest.mark.parametrize(
    ("flags", "has_it"),
    [("fpu avx2", False), ("avx2 avx512_bf16", True), ("amx_bf16", True), ("asimd bf16", True)],
)
def test_processors_with_bfloat16_are_known(tmp_path, flags, has_it):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    assert has_bfloat16(cpuinfo) is has_it and not has_bfloat16(tmp_path / "absent")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has it")
@pytest.mark.parametrize(
    ("precision", "has_it", "is_told"),
    [("bfloat16", False, True), ("bfloat16", True, False), ("float32", False, False)],
)
def test_emulated_bfloat16_is_told(cache, tmp_path, monkeypatch, precision, has_it, is_told):
    monkeypatch.setattr("training.loop.train.has_bfloat16", lambda: has_it)
    printed = run(make_config(cache, precision=precision), tmp_path, StopAfter(1))
    assert ("emulates bfloat16" in printed) is is_told
