"""Supervised training: `matte train CONFIG [--resume] [--out DIR] [--max-minutes N] [--data DIR]`.

Ke et al., section 3.2. Stages follow each other: the low-resolution branch may go first, alone.
In the folder `--out`: `best.pt` (averaged weights with the lowest validation MAD, for export),
`last.pt` (everything that `--resume` needs), `log.csv`, `curves.png`, `sheet.png`.
"""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from training.config import Config, StageConfig
from training.data.pairs import DataError, Pair, find_backgrounds, find_images, find_pairs
from training.data.samples import Samples, make_loader
from training.data.synthetic import draw_data_set
from training.loop.optimizer import compute_lr, set_lr
from training.loop.report import Log, Screen, draw_curves, draw_predictions
from training.loop.state import RunState, begin_run, resume_run, save_best, save_last
from training.loop.validation import append_trimap, validate
from training.losses.modnet import compute_supervised_losses
from training.losses.semantic import reduce_to_semantic
from training.network.modnet import MODNet

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainError(RuntimeError):
    """Training cannot go on; the message is one line."""


class Stop:
    """When to end before the last step: a signal or a deadline, looked at between steps."""

    def __init__(self, max_minutes: float | None) -> None:
        self.deadline = time.monotonic() + max_minutes * 60 if max_minutes else float("inf")
        self.max_minutes = max_minutes
        self.signal_name = ""
        self.handlers: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: object) -> None:
        self.signal_name = signal.Signals(number).name
        self.__exit__()  # a second signal ends the process at once

    @property
    def reason(self) -> str:
        """Why to stop now; empty if there is no reason."""
        if self.signal_name:
            return self.signal_name
        is_late = time.monotonic() > self.deadline
        return f"{self.max_minutes:g} minutes are over" if is_late else ""


def train(config: Config, out: Path, is_resumed: bool, stop: Stop, console: Console) -> None:
    """Run all stages, or as much as `stop` allows.

    Raises DataError, CheckpointError, or TrainError if a loss is not finite.
    """
    train_pairs, val_pairs, backgrounds = find_data(config)
    console.print(
        f"{len(train_pairs)} photos to train, {len(val_pairs)} to validate, "
        f"{len(backgrounds)} backgrounds",
        highlight=False,
    )
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    out.mkdir(parents=True, exist_ok=True)
    run = (resume_run if is_resumed else begin_run)(config, out, device)
    log = Log(out / "log.csv", run.photos)
    with Screen(console) as screen:
        while run.stage < len(config.stages):
            stage = config.stages[run.stage]
            steps_per_epoch = max(1, (config.epoch_photos or len(train_pairs)) // stage.batch_size)
            steps = stage.epochs * steps_per_epoch
            key = (config.seed, run.stage)
            samples = Samples(train_pairs, backgrounds, config.data, stage, key)
            screen.begin(stage.name, steps * stage.batch_size, run.step * stage.batch_size)
            meter = Meter()
            for batch in make_loader(samples, run.step, steps, device.type == "cuda"):
                lr = compute_lr(stage, run.step, steps_per_epoch)
                losses = take_step(run, config, stage, batch, lr, out)
                meter.add(losses, stage.batch_size)
                screen.advance(run.step * stage.batch_size)
                if run.step % config.log_steps == 0 or run.step == steps:
                    row = meter.take()
                    log.write(stage=stage.name, step=run.step, photos=run.photos, lr=lr, **row)
                    screen.show(describe(stage, run.step, steps, row))
                if run.step % steps_per_epoch == 0:
                    finish_epoch(run, config, stage, val_pairs, log, out, screen)
                    save_last(run, config, out)
                    meter = Meter()
                if reason := stop.reason:
                    save_last(run, config, out)
                    screen.say(f"stopped: {reason}. Go on with --resume --out {out}")
                    return
            run.enter_stage(config, run.stage + 1)
            save_last(run, config, out)
    console.print(f"finished: {out / 'best.pt'}, MAD {run.best_mad:.4f}", highlight=False)


def take_step(
    run: RunState,
    config: Config,
    stage: StageConfig,
    batch: Sequence[Tensor],
    lr: float,
    out: Path,
) -> dict[str, float]:
    """Train on one batch of uint8 tensors; return the losses."""
    image, alpha, trimap = (x.to(run.device, non_blocking=True).float() for x in batch)
    image, alpha, trimap = image / 127.5 - 1, alpha / 255, trimap / 2
    run.model.train()
    losses = compute_losses(run.model, image, alpha, trimap, config, stage)
    values = {name: loss.item() for name, loss in losses.items()}
    if not np.isfinite(list(values.values())).all():
        path = out / "bad_batch.npz"
        arrays = dict(zip(("image", "alpha", "trimap"), (x.numpy() for x in batch), strict=True))
        np.savez_compressed(path, stage=run.stage, step=run.step, **arrays)
        text = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise TrainError(f"step {run.step} of {stage.name}: {text}; the batch is in {path}")
    set_lr(run.optimizer, lr)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
    if stage.grad_clip:
        run.scaler.unscale_(run.optimizer)
        torch.nn.utils.clip_grad_norm_(run.trained_parameters, stage.grad_clip)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.average.update(run.model, run.updates)
    run.step += 1
    run.updates += 1
    run.photos += stage.batch_size
    return values


def compute_losses(
    model: MODNet,
    image: Tensor,
    alpha: Tensor,
    trimap: Tensor,
    config: Config,
    stage: StageConfig,
) -> dict[str, Tensor]:
    """Return the scaled losses by name. The network may run in half precision, they do not."""
    x = append_trimap(image, trimap) if config.model.trimap_input else image
    if config.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    dtype = DTYPES[config.precision]
    with torch.autocast(image.device.type, dtype=dtype, enabled=dtype is not None):
        if stage.branches == "lr":
            semantic, _, _ = model.lr_branch(x, inference=False)
        else:
            semantic, detail, matte = (prediction.float() for prediction in model(x))
    if stage.branches == "lr":
        return {"semantic": 10 * F.mse_loss(semantic.float(), reduce_to_semantic(alpha))}
    losses = compute_supervised_losses(
        semantic, detail, matte, image, alpha, trimap, detail_loss=config.detail_loss
    )
    return losses._asdict()


def finish_epoch(
    run: RunState,
    config: Config,
    stage: StageConfig,
    pairs: list[Pair],
    log: Log,
    out: Path,
    screen: Screen,
) -> None:
    """Validate the averaged weights, keep them if they are the best, draw curves and sheet."""
    is_semantic = stage.branches == "lr"
    scores, predictions = validate(run.average.model, pairs, config, is_semantic)
    row = {f"val_{name}": value for name, value in scores._asdict().items()}
    log.write(stage=stage.name, step=run.step, photos=run.photos, **row)
    text = "  ".join(f"{name} {value:.4f}" for name, value in scores._asdict().items())
    if not is_semantic and scores.mad < run.best_mad:
        run.best_mad = scores.mad
        save_best(run, scores, out)
        text += "  best so far"
    screen.say(f"{stage.name} after {run.photos} photos, validation: {text}")
    draw_curves(log.path, out / "curves.png")
    draw_predictions(predictions, out / "sheet.png")


def find_data(config: Config) -> tuple[list[Pair], list[Pair], list[Path]]:
    """Return (pairs to train, pairs to validate, backgrounds)."""
    folders = [Path(folder) for folder in config.data.folders]
    if config.data.synthetic:
        folders.append(draw_data_set(Path(config.data.cache), config.data.synthetic))
    if not folders:
        raise DataError("no data: name folders in data.folders or with --data")
    pairs = [pair for folder in folders for pair in find_pairs(folder)]
    backgrounds = find_backgrounds(folders)
    backgrounds += [path for f in config.data.backgrounds for path in find_images(Path(f))]
    split = {name: [pair for pair in pairs if pair.split == name] for name in ("train", "val")}
    for name, found in split.items():
        if not found:
            raise DataError(f"{', '.join(map(str, folders))}: no photos in the {name} split")
    limit = config.validation.photos or len(split["val"])
    spread = np.linspace(0, len(split["val"]) - 1, min(limit, len(split["val"])))
    return split["train"], [split["val"][i] for i in np.rint(spread).astype(int)], backgrounds


class Meter:
    """Mean losses and photos per second since the last `take`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.photos, self.start = 0, time.perf_counter()

    def add(self, losses: dict[str, float], photos: int) -> None:
        self.rows.append(losses)
        self.photos += photos

    def take(self) -> dict[str, float]:
        mean = {name: float(np.mean([row[name] for row in self.rows])) for name in self.rows[0]}
        rate = self.photos / (time.perf_counter() - self.start)
        self.__init__()
        return {**mean, "photos_per_s": rate}


def describe(stage: StageConfig, step: int, steps: int, row: dict[str, float]) -> str:
    """Return a line of losses, speed and time left."""
    losses = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k != "photos_per_s")
    rate = row["photos_per_s"]
    left_min = (steps - step) * stage.batch_size / rate / 60
    return f"{stage.name} {step}/{steps}  {losses}  {rate:.1f} photos/s  {left_min:.0f} min left"
