"""Adaptation to unlabelled clips.

SOC, the sub-objective consistency of Ke et al., section 3.3: on footage without labels the three
outputs of the network are made to agree. Normalisation is frozen, the batch is one frame, Adam has
a low rate. A copy of the network, made anew at each epoch, keeps the details where they are: it
would be the easiest agreement to have none.
"""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from training.data.pairs import DataError
from training.evaluation import metrics
from training.evaluation.measure import read_frames
from training.evaluation.predictor import choose_size, make_tensor
from training.losses.soc import SocLosses, compute_soc_losses
from training.network.modnet import MODNet

BETAS = (0.9, 0.99)  # of Adam, as in the released code
# With one clip there is none left to judge on: its last part is kept back.
HELD_OUT_SHARE = 0.2
MIN_FRAMES = 4

Frames = list[np.ndarray]  # each (h, w, 3) uint8 RGB at network size


class AdaptError(RuntimeError):
    """Adaptation cannot go on; the message is one line."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast: `lr` 1e-5 in the released code, 1e-4 in the paper."""

    epochs: int = 10
    lr: float = 1e-5
    seed: int = 0


class Judgement(NamedTuple):
    """Means over frames of the semantic and detail losses of SOC, and flicker (see metrics)."""

    semantic: float
    detail: float
    flicker: float


def adapt(model: MODNet, frames: Frames, plan: Plan, progress: Progress) -> None:
    """Train the model on the frames in place; raises AdaptError if a loss is not finite."""
    rng = np.random.default_rng(plan.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.lr, betas=BETAS)
    task = progress.add_task("adapting", total=plan.epochs * len(frames))
    for epoch in range(plan.epochs):
        backup = freeze_copy(model)
        model.train()
        model.freeze_norm()
        for index in rng.permutation(len(frames)):
            losses = take_step(model, backup, to_batch(frames[index]), optimizer)
            text = (
                f"epoch {epoch + 1}/{plan.epochs}  semantic {losses[0]:.3f}  detail {losses[1]:.3f}"
            )
            progress.update(task, advance=1, description=text)
    model.eval()


def freeze_copy(model: MODNet) -> MODNet:
    """Return a copy that does not learn."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def take_step(
    model: MODNet, backup: MODNet, image: Tensor, optimizer: torch.optim.Optimizer
) -> list[float]:
    """Learn from one batch (N, 3, H, W); return the scaled semantic and detail losses."""
    losses = compute_losses(model, backup, image)
    values = [loss.item() for loss in losses]
    if not all(map(math.isfinite, values)):
        raise AdaptError("the loss is not a finite number: try a lower --lr")
    optimizer.zero_grad(set_to_none=True)
    sum(losses).backward()
    optimizer.step()
    return values


def compute_losses(model: MODNet, backup: MODNet, image: Tensor) -> SocLosses:
    with torch.no_grad():
        _, backup_detail, backup_matte = backup(image)
    return compute_soc_losses(*model(image), backup_detail, backup_matte)


@torch.no_grad()
def judge(model: MODNet, original: MODNet, frames: Frames) -> Judgement:
    """Measure a network in evaluation mode; details are held against those of `original`.

    Frames stand in the clip's order, as flicker needs them.
    """
    losses = [
        [loss.item() for loss in compute_losses(model, original, to_batch(f))] for f in frames
    ]
    semantic, detail = (mean(column) for column in zip(*losses, strict=True))
    alphas = [model(to_batch(frame), inference=True)[2][0, 0].numpy() for frame in frames]
    flows = [metrics.estimate_flow(*pair) for pair in pairwise(frames)]
    return Judgement(semantic, detail, metrics.flicker(alphas, flows))


def to_batch(frame: np.ndarray) -> Tensor:
    """Return (1, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(make_tensor(frame, frame.shape[:2]))[None]


def read_clip(path: Path, ref_size: int, every: int, limit: int) -> Frames:
    """Return every n-th frame at network size, at most `limit`; raises DataError."""
    frames: Frames = []
    for index, image in enumerate(read_frames(path)):
        if len(frames) == limit:
            break
        if index % every == 0:
            height, width = choose_size(*image.shape[:2], ref_size)
            frames.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    if len(frames) < MIN_FRAMES:
        raise DataError(f"{path}: {len(frames)} frames, at least {MIN_FRAMES} are needed")
    return frames


def split_clips(clips: list[Frames], held_out: Frames | None) -> tuple[list[Frames], Frames]:
    """Return the clips to learn from and frames that are not learnt from, in their order.

    Without a clip named for it, the last one is kept back, or the end of the only one.
    """
    if held_out is not None:
        return clips, held_out
    if len(clips) > 1:
        return clips[:-1], clips[-1]
    cut = len(clips[0]) - max(2, round(len(clips[0]) * HELD_OUT_SHARE))
    return [clips[0][:cut]], clips[0][cut:]
