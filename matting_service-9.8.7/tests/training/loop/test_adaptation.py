"""SOC on a real clip, and what the command says about it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from tests.clips import make_clip
from tests.tiny_network import make_tiny_model
from training.loop.adaptation import (
    AdaptError,
    Plan,
    adapt,
    freeze_copy,
    judge,
    read_clip,
    split_clips,
)

REF_SIZE = 96


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "portrait.mp4"
    return make_clip(path, seconds=1, fps=10, size=(192, 144), tone=False)


def test_adaptation_lowers_the_consistency_loss_on_a_clip_not_learnt_from(clip: Path) -> None:
    frames = read_clip(clip, REF_SIZE, 1, 10)
    learnt, kept = frames[:6], frames[6:]
    model = make_tiny_model()
    original = freeze_copy(model)
    before = [judge(model, original, place) for place in (learnt, kept)]
    with Progress(disable=True) as progress:
        adapt(model, learnt, Plan(epochs=6, lr=1e-3), progress)
    after = [judge(model, original, place) for place in (learnt, kept)]
    for old, new in zip(before, after, strict=True):
        assert new.semantic < 0.5 * old.semantic
    assert before[0].detail == 0 and after[0].detail > 0, "details moved, and were measured"


def test_adaptation_leaves_the_statistics_of_the_normalisation(clip: Path) -> None:
    model = make_tiny_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with Progress(disable=True) as progress:
        adapt(model, read_clip(clip, REF_SIZE, 2, 10), Plan(epochs=1), progress)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not [k for k in changed if "running" in k or "num_batches" in k]
    assert not model.training


def test_adaptation_is_the_same_for_the_same_seed(clip: Path) -> None:
    frames = read_clip(clip, REF_SIZE, 3, 10)
    states = []
    for _ in range(2):
        model = make_tiny_model()
        with Progress(disable=True) as progress:
            adapt(model, frames, Plan(epochs=1, lr=1e-4, seed=3), progress)
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_frames_without_a_person_do_not_break_the_weights() -> None:
    model = make_tiny_model()
    with torch.no_grad():  # says "nobody here": the boundary of the person is empty
        model.f_branch.conv_f[1].layers[0].bias -= 100
        model.lr_branch.conv_lr.layers[0].bias -= 100
    frames = [np.full((96, 96, 3), 90, np.uint8)] * 4
    with Progress(disable=True) as progress:
        adapt(model, frames, Plan(epochs=1), progress)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_loss_that_is_not_finite_ends_with_one_line() -> None:
    model = make_tiny_model()
    with torch.no_grad():
        model.f_branch.conv_f[1].layers[0].bias.fill_(float("nan"))
    with Progress(disable=True) as progress, pytest.raises(AdaptError, match="finite"):
        adapt(model, [np.zeros((96, 96, 3), np.uint8)] * 4, Plan(epochs=1), progress)


@pytest.mark.parametrize(
    ("clips", "named", "learnt", "kept"),
    [
        ([[1, 2], [3, 4]], [9], [[1, 2], [3, 4]], [9]),
        ([[1, 2], [3, 4]], None, [[1, 2]], [3, 4]),
        ([list(range(20))], None, [list(range(16))], [16, 17, 18, 19]),
        ([[1, 2, 3, 4]], None, [[1, 2]], [3, 4]),
    ],
)
def test_some_footage_is_always_kept_back(clips, named, learnt, kept) -> None:
    assert split_clips(clips, named) == (learnt, kept)
