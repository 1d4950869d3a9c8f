"""Adaptation to unlabelled clips: `matte adapt CLIP... --model CHECKPOINT --out ADAPTED.pt`.

SOC, the sub-objective consistency of Ke et al., section 3.3: on footage without labels the three
outputs of the network are made to agree. Normalisation is frozen, the batch is one frame, Adam has
a low rate. A copy of the network, made anew at each epoch, keeps the details where they are: it
would be the easiest agreement to have none.
"""

import argparse
import copy
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from training import metrics
from training.checkpoint import CheckpointError, load_model
from training.command import fail, parse_count
from training.data import DataError
from training.losses import SocLosses, compute_soc_losses
from training.measure import read_frames
from training.model import MODNet
from training.predictor import choose_size, make_tensor
from training.results import format_table
from training.state import save_atomically

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


def format_report(before: Sequence[Judgement], after: Sequence[Judgement]) -> str:
    """Return a Markdown table: the footage learnt from, then the footage kept back."""
    rows = []
    for place, old, new in zip(("learnt from", "kept back"), before, after, strict=True):
        for name, was, now in zip(Judgement._fields, old, new, strict=True):
            rows.append([place, name, f"{was:.4f}", f"{now:.4f}", f"{now - was:+.4f}"])
    return format_table(["frames", "measure", "before", "after", "change"], rows, left=2)


def run(arguments: argparse.Namespace) -> None:
    """Read, adapt, judge, save; raises AdaptError, CheckpointError, DataError or OSError."""
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    model = load_model(arguments.model)
    if model.architecture["in_channels"] != 3:
        raise AdaptError(f"{arguments.model}: needs a trimap, and unlabelled clips have none")
    size = arguments.ref_size, arguments.every, arguments.max_frames
    clips = [read_clip(path, *size) for path in arguments.clips]
    held_out = read_clip(arguments.held_out, *size) if arguments.held_out else None
    clips, held_out = split_clips(clips, held_out)
    frames = [frame for clip in clips for frame in clip]
    original = freeze_copy(model)
    places = clips[0], held_out
    with Progress(console=Console(stderr=True)) as progress:
        before = [judge(model.eval(), original, place) for place in places]
        plan = Plan(arguments.epochs, arguments.lr, arguments.seed)
        adapt(model, frames, plan, progress)
        after = [judge(model, original, place) for place in places]
    save_atomically(arguments.out, model, adapted_from=str(arguments.model.name))
    print(format_report(before, after))
    if arguments.json:
        rows = {
            f"{place}_{when}": judgement._asdict()
            for when, judgements in (("before", before), ("after", after))
            for place, judgement in zip(("learnt", "kept"), judgements, strict=True)
        }
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="matte adapt", description="Adapt a network to your own clips, without labels (SOC)."
    )
    add = parser.add_argument
    add("clips", type=Path, nargs="+", metavar="CLIP", help="footage to learn from")
    add("--model", type=Path, required=True, help="checkpoint to start from")
    add("--out", type=Path, required=True, help="checkpoint to write (.pt)")
    add("--held-out", type=Path, metavar="CLIP", help="clip to judge on (default: the last one)")
    add("--epochs", type=parse_count, default=Plan.epochs, help="default: %(default)s")
    add("--lr", type=float, default=Plan.lr, help="default: %(default)s")
    add("--ref-size", type=parse_count, default=512, help="shorter side, pixels (%(default)s)")
    add("--every", type=parse_count, default=1, help="take each n-th frame (%(default)s)")
    add("--max-frames", type=parse_count, default=500, help="of a clip (%(default)s)")
    add("--threads", type=parse_count, default=0, help="default: one per core")
    add("--seed", type=int, default=Plan.seed, help="of the order of frames (%(default)s)")
    add("--json", type=Path, help="write the measures")
    arguments = parser.parse_args(argv)
    try:
        run(arguments)
    except (AdaptError, CheckpointError, DataError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted, nothing written", code=130)
    return 0


if __name__ == "__main__":
    sys.exit(main())
