"""One step: losses of a batch, their gradients over all processes, the optimiser's move."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.config import Config, StageConfig
from training.data.samples import Batch
from training.loop.optimizer import enter_training, set_lr
from training.loop.processes import Group
from training.loop.state import RunState
from training.loop.stop import TrainError
from training.loop.validation import append_trimap
from training.losses.fast import compute_fast_losses
from training.losses.modnet import compute_supervised_losses
from training.losses.semantic import measure_cells, reduce_to_semantic
from training.network.fast import FastNet
from training.network.networks import Network

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Plan(NamedTuple):
    """What a step is told: learning rate, share of the stage behind it, whether it is the last."""

    lr: float
    progress: float
    is_last: bool
    cpu_ms: float  # of this process since the step before


class StepResult(NamedTuple):
    """What a step says, over the whole batch and all processes."""

    losses: dict[str, float]
    cpu_ms: float
    sample_ms: float
    is_last: bool
    is_left_out: bool  # its gradient was not finite


def take_step(
    run: RunState,
    config: Config,
    stage: StageConfig,
    batch: Batch,
    plan: Plan,
    group: Group,
    out: Path,
) -> StepResult:
    """Train on this process's part of a batch, together with the others.

    Raises TrainError if a loss is not finite; the batch is then in a file.
    """
    enter_training(run.model, stage)
    run.optimizer.zero_grad(set_to_none=True)
    norms = NormStatistics(run.model) if config.parts > 1 else None
    hard_cells = choose_hard_cells(stage, plan.progress)
    sums: dict[str, Tensor] = {}
    errors = []
    for image, alpha, trimap in cut(batch, config.parts // group.size, run.device):
        if norms:
            norms.begin_part()
        alpha = ask_teacher(run, image, alpha, config)
        losses, error = compute_losses(run.model, image, alpha, trimap, config, stage, hard_cells)
        run.scaler.scale(torch.stack(list(losses.values())).sum() / config.parts).backward()
        if norms:
            norms.end_part()
        errors.append(error.detach().float())
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach().float() / config.parts
    used = [p for p in run.trained_parameters if p.grad is not None]
    figures = Figures(stage.batch_size, sums, batch, torch.cat(errors), plan, group)
    sums_of_norms = norms.sums if norms else []
    group.add_up([*(p.grad for p in used), *sums_of_norms, figures.values])
    result = figures.read(sample_ms_is_extra=config.data.workers > 0)
    check_losses(result.losses, run, stage, batch, group, out)
    if norms:
        norms.average(config.parts)
    if config.data.hard_cap > 1:
        run.errors.note(figures.photos, figures.errors)
    is_left_out = not move(run, stage, used, plan.lr)
    if group.leads:
        run.average.update(run.model, run.updates)
    run.step += 1
    run.updates += 1
    run.photos += stage.batch_size
    return result._replace(is_left_out=is_left_out)


def move(run: RunState, stage: StageConfig, used: list[nn.Parameter], lr: float) -> bool:
    """Let the optimiser take its step; False if the gradient was not finite and nothing moved."""
    set_lr(run.optimizer, lr)
    if stage.grad_clip:
        run.scaler.unscale_(run.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(used, stage.grad_clip)
        if not run.scaler.is_enabled() and not bool(torch.isfinite(norm)):
            return False
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return True


def cut(batch: Batch, parts: int, device: torch.device) -> list[list[Tensor]]:
    """Return [image in [-1, 1], alpha in [0, 1], trimap in {0, 0.5, 1}] of each part, float32."""
    scaled = []
    for tensor, scale, offset in ((batch.image, 127.5, 1), (batch.alpha, 255, 0)):
        scaled.append(tensor.to(device, non_blocking=True).float() / scale - offset)
    scaled.append(batch.trimap.to(device, non_blocking=True).float() / 2)
    return [list(part) for part in zip(*(x.chunk(parts) for x in scaled), strict=True)]


@torch.no_grad()
def ask_teacher(run: RunState, image: Tensor, alpha: Tensor, config: Config) -> Tensor:
    """Return the alpha to learn: the label, with the teacher's matte mixed in if there is one."""
    if run.teacher is None:
        return alpha
    dtype = DTYPES[config.precision]
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, dtype=dtype, enabled=dtype is not None):
        matte = run.teacher(image, inference=True)[2].float()
    return torch.lerp(alpha, matte, config.model.teacher_share)


def choose_hard_cells(stage: StageConfig, progress: float) -> float:
    """Return the weight of the worst cells now."""
    first, last = stage.hard_cells_span
    return stage.hard_cells if first <= progress < last else 0.0


def compute_losses(
    model: Network,
    image: Tensor,
    alpha: Tensor,
    trimap: Tensor,
    config: Config,
    stage: StageConfig,
    hard_cells: float,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the scaled losses by name, and the mean absolute error of each photo (N,).

    The network may run in half precision, they do not.
    """
    x = append_trimap(image, trimap) if config.model.trimap_input else image
    dtype = DTYPES[config.precision]
    if config.precision == "bfloat16":
        x = x.to(dtype)  # else joining the picture to features would make them float32 again
    if config.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, dtype=dtype, enabled=dtype is not None):
        if isinstance(model, FastNet):
            predictions = model.predict_logits(x)
        elif stage.branches == "lr":
            predictions = model.lr_branch(x, inference=False)[:1]
        else:
            predictions = model(x)
    predictions = [prediction.float() for prediction in predictions]
    if isinstance(model, FastNet):
        losses = compute_fast_losses(
            *predictions, alpha, trimap, hard_cells, stage.cross_entropy
        )._asdict()
        error = predictions[1].detach().sigmoid() - alpha
    elif stage.branches == "lr":
        losses = {"semantic": measure_cells(predictions[0], alpha, hard_cells)}
        error = predictions[0].detach() - reduce_to_semantic(alpha)
    else:
        losses = compute_supervised_losses(
            *predictions, image, alpha, trimap, detail_loss=config.detail_loss
        )._asdict()
        error = predictions[2].detach() - alpha
    return losses, error.abs().mean(dim=(1, 2, 3))


class NormStatistics:
    """Batch norm that sees a batch part by part: each from the same start, then the mean of all.

    So the result does not depend on the number of processes among which the parts are divided.
    """

    def __init__(self, model: nn.Module) -> None:
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.buffers, self.start = buffers, [buffer.clone() for buffer in buffers]
        self.counters = [buffer for buffer in model.buffers() if not buffer.is_floating_point()]
        self.counted = [counter + 1 for counter in self.counters]
        self.sums = [torch.zeros_like(buffer) for buffer in buffers]

    def begin_part(self) -> None:
        torch._foreach_copy_(self.buffers, self.start)

    def end_part(self) -> None:
        torch._foreach_add_(self.sums, self.buffers)

    def average(self, parts: int) -> None:
        torch._foreach_copy_(self.buffers, torch._foreach_div(self.sums, float(parts)))
        for counter, count in zip(self.counters, self.counted, strict=True):
            counter.copy_(count)  # one batch, whatever its parts


class Figures:
    """The numbers of a step that are added up over the processes, in one float32 tensor."""

    def __init__(
        self,
        batch_size: int,
        losses: dict[str, Tensor],
        batch: Batch,
        errors: Tensor,
        plan: Plan,
        group: Group,
    ) -> None:
        self.names, self.count = list(losses), batch_size
        photos, all_errors = torch.zeros(batch_size), torch.zeros(batch_size)
        own = slice(group.rank * len(errors), (group.rank + 1) * len(errors))
        photos[own], all_errors[own] = batch.photo.float(), errors.cpu()
        costs = [plan.cpu_ms, float(batch.cpu_ms.sum()), float(plan.is_last)]
        sums = torch.stack(list(losses.values())).cpu()
        self.values = torch.cat([photos, all_errors, torch.tensor(costs), sums])

    def read(self, sample_ms_is_extra: bool) -> StepResult:
        """Return the result; samples made by worker processes are not in `cpu_ms` yet."""
        cpu_ms, sample_ms, is_last, *losses = self.values[2 * self.count :].tolist()
        cpu_ms += sample_ms * sample_ms_is_extra
        losses = dict(zip(self.names, losses, strict=True))
        return StepResult(losses, cpu_ms, sample_ms, is_last > 0, is_left_out=False)

    @property
    def photos(self) -> np.ndarray:
        return self.values[: self.count].long().numpy()

    @property
    def errors(self) -> np.ndarray:
        return self.values[self.count : 2 * self.count].double().numpy()


def check_losses(
    losses: dict[str, float],
    run: RunState,
    stage: StageConfig,
    batch: Batch,
    group: Group,
    out: Path,
) -> None:
    """Raise TrainError and keep the batch if a loss is not finite."""
    if np.isfinite(list(losses.values())).all():
        return
    suffix = f"_{group.rank}" if group.size > 1 else ""
    path = out / f"bad_batch{suffix}.npz"
    arrays = {name: getattr(batch, name).numpy() for name in ("image", "alpha", "trimap")}
    np.savez_compressed(path, stage=run.stage, step=run.step, **arrays)
    text = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    raise TrainError(f"step {run.step} of {stage.name}: {text}; the batch is in {path}")
