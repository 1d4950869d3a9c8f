"""Supervised training (Ke et al., section 3.2): stages one after the other, each in epochs."""

import ctypes
import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console

from training.config import Config, StageConfig
from training.data.pairs import DataError, Pair, find_backgrounds, find_images, find_pairs
from training.data.samples import ORDER, Samples, make_loader
from training.data.sampling import PhotoErrors, draw_order, favour_hard, make_shares
from training.data.synthetic import draw_data_set
from training.loop.optimizer import compute_lr
from training.loop.processes import Group, share_work
from training.loop.report import (
    CpuClock,
    Log,
    Meter,
    Screen,
    describe_step,
    draw_curves,
    draw_predictions,
)
from training.loop.state import RunState, begin_run, resume_run, save_best, save_last
from training.loop.step import Plan, take_step
from training.loop.stop import Stop
from training.loop.validation import Prediction, validate
from training.network.fused_norm import BuildError, load_kernel

M_TRIM_THRESHOLD, M_MMAP_MAX, LARGEST_INT = -1, -4, 2**31 - 1
DRAWING_PAUSE_S = 60  # at least, between drawings of curves and sheet


class Data(NamedTuple):
    """Pairs to train on and to validate with, and pictures without people."""

    train: list[Pair]
    val: list[Pair]
    backgrounds: list[Path]


def train(config: Config, out: Path, is_resumed: bool, stop: Stop, console: Console) -> None:
    """Run all stages, or as much as `stop` allows.

    Raises DataError, CheckpointError, or TrainError if a loss is not finite or a process ends.
    """
    data = find_data(config)
    make_shares(data.train, config.data.weights, config.data.balance)  # refuses a wrong name
    counts = f"{len(data.train)} photos to train, {len(data.val)} to validate"
    console.print(f"{counts}, {len(data.backgrounds)} backgrounds", highlight=False)
    if config.precision == "bfloat16" and not takes_cuda(config) and not has_bfloat16():
        console.print('this processor emulates bfloat16: precision = "float32" is faster here')
    if config.fused_norms:
        try:
            load_kernel()
        except BuildError as error:
            config = dataclasses.replace(config, fused_norms=False)
            console.print(f"norms are not fused, which is slower: {error}", highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    with share_work(config.processes, run_stages, (config, out, is_resumed, data)) as group:
        run_stages(group, config, out, is_resumed, data, stop, console)


def run_stages(
    group: Group,
    config: Config,
    out: Path,
    is_resumed: bool,
    data: Data,
    stop: Stop | None = None,
    console: Console | None = None,
) -> None:
    """Train as one process of a group; only the first one knows when to stop and speaks."""
    console = console or Console(quiet=True)
    device = prepare_torch(config)
    run = (resume_run if is_resumed else begin_run)(config, out, device, PhotoErrors(data.train))
    group.wait()  # until all have read the file that the first one will write
    with Screen(console) as screen:
        trainer = Trainer(group, config, out, data, run, stop or Stop(None), screen)
        has_finished = trainer.run_to_the_end()
        trainer.draw()
        if has_finished:
            text = f"finished: {out / 'best.pt'}, MAD {run.best_mad:.4f}"
            console.print(text, highlight=False)


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor computes in bfloat16, rather than in float32 and rounds."""
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    return bool({"amx_bf16", "avx512_bf16", "bf16", "svebf16"}.intersection(flags))


def prepare_torch(config: Config) -> torch.device:
    """Set seed and threads; return where to train."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    threads = 1 if config.processes > 1 else config.threads
    if threads:
        torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda" if takes_cuda(config) else "cpu")


def takes_cuda(config: Config) -> bool:
    """Return whether a run takes the GPU: one process, and there is one."""
    return torch.cuda.is_available() and config.processes == 1


def keep_freed_memory() -> None:
    """Have glibc use freed memory again, mallopt(3): fresh pages take a fifth of the time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
        mallopt(M_MMAP_MAX, 0)  # the largest tensors too


class Trainer:
    """A run on its way through stages and epochs, in one process of a group."""

    def __init__(
        self,
        group: Group,
        config: Config,
        out: Path,
        data: Data,
        run: RunState,
        stop: Stop,
        screen: Screen,
    ) -> None:
        self.group, self.config, self.out, self.data = group, config, out, data
        self.run, self.stop, self.screen = run, stop, screen
        self.log = Log(out / "log.csv", run.photos) if group.leads else None
        self.shares = make_shares(data.train, config.data.weights, config.data.balance)
        self.clock, self.saved_at = CpuClock(), time.monotonic()
        self.predictions: list[Prediction] = []  # of the last validation that is not drawn yet
        self.drawn_at = time.monotonic()

    def run_to_the_end(self) -> bool:
        """Take all steps that are left; False if there was a reason to stop before."""
        run, stages = self.run, self.config.stages
        while run.stage < len(stages):
            stage = stages[run.stage]
            photos = self.config.epoch_photos or len(self.data.train)
            steps_per_epoch = max(1, photos // stage.batch_size)
            steps = stage.epochs * steps_per_epoch
            self.screen.begin(stage.name, steps * stage.batch_size, run.step * stage.batch_size)
            while run.step < steps:
                if not self.run_epoch(stage, steps_per_epoch):
                    return False
            run.enter_stage(self.config, run.stage + 1)
            self.save()
        return True

    def run_epoch(self, stage: StageConfig, steps_per_epoch: int) -> bool:
        """Take the steps that an epoch has left; False if there was a reason to stop before."""
        run, group, config, meter = self.run, self.group, self.config, Meter()
        epoch, first = divmod(run.step, steps_per_epoch)
        samples = self.make_samples(stage, steps_per_epoch, epoch, is_begun=first > 0)
        part = group.rank, group.size
        is_pinned = run.device.type == "cuda"
        self.clock.take()
        for batch in make_loader(samples, first, steps_per_epoch, is_pinned, part):
            reason = self.stop.reason if group.leads else ""
            lr = compute_lr(stage, run.step, steps_per_epoch)
            progress = run.step / (stage.epochs * steps_per_epoch)
            plan = Plan(lr, progress, bool(reason), self.clock.take())
            result = take_step(run, config, stage, batch, plan, group, self.out)
            meter.add(result.losses, stage.batch_size, result.cpu_ms, result.sample_ms)
            self.report(stage, steps_per_epoch * stage.epochs, lr, meter, result.is_left_out)
            if run.step % steps_per_epoch == 0:
                if group.leads:
                    self.finish_epoch(stage)
                self.save()
            elif result.is_last or time.monotonic() - self.saved_at > config.save_minutes * 60:
                self.save()
            if result.is_last:
                self.screen.say(f"stopped: {reason}. Go on with --resume --out {self.out}")
                return False
        return True

    def make_samples(
        self, stage: StageConfig, steps_per_epoch: int, epoch: int, is_begun: bool
    ) -> Samples:
        """Return the samples of an epoch; hard photos are chosen anew at its beginning."""
        run, data, config = self.run, self.data, self.config
        if not is_begun:
            run.errors.begin_epoch()
        shares = favour_hard(self.shares, run.errors.drawn, data.train, config.data.hard_cap)
        key = config.seed, run.stage, epoch
        count = steps_per_epoch * stage.batch_size
        order = draw_order(shares, count, np.random.default_rng((ORDER, *key)))
        paste_share, empty_share = config.read_shares(stage)
        recipe = dataclasses.replace(config.data, paste_share=paste_share, empty_share=empty_share)
        return Samples(data.train, data.backgrounds, recipe, stage, key, order)

    def report(
        self, stage: StageConfig, steps: int, lr: float, meter: Meter, is_left_out: bool
    ) -> None:
        """Write and show the losses now and then."""
        run, size = self.run, stage.batch_size
        self.screen.advance(run.step * size)
        if is_left_out:
            self.screen.say(
                f"{stage.name} {run.step}/{steps}  left out: its gradient is not finite"
            )
        if self.log and (run.step % self.config.log_steps == 0 or run.step == steps):
            row = meter.take()
            self.log.write(stage=stage.name, step=run.step, photos=run.photos, lr=lr, **row)
            left = (steps - run.step) * size
            self.screen.show(describe_step(stage.name, (run.step, steps), left, row))

    def finish_epoch(self, stage: StageConfig) -> None:
        """Validate the averaged weights, keep them if they are the best, draw now and then."""
        run, is_semantic = self.run, stage.branches == "lr"
        if self.config.processes > 1:
            torch.set_num_threads(self.config.processes)  # the others wait
        scores, predictions = validate(run.average.model, self.data.val, self.config, is_semantic)
        if self.config.processes > 1:
            torch.set_num_threads(1)
        for name, means in scores.items():
            row = {f"val_{measure}": value for measure, value in means._asdict().items()}
            about = {"stage": stage.name, "step": run.step, "photos": run.photos}
            self.log.write(**about, data_set=name, **row)
            text = "  ".join(f"{key} {value:.4f}" for key, value in means._asdict().items())
            if not name and not is_semantic and means.mad < run.best_mad:
                run.best_mad = means.mad
                save_best(run, means, self.out)
                text += "  best so far"
            place = f"validation of {name}" if name else "validation"
            self.screen.say(f"{stage.name} after {run.photos} photos, {place}: {text}")
        self.predictions = predictions
        if time.monotonic() - self.drawn_at > DRAWING_PAUSE_S:
            self.draw()

    def draw(self) -> None:
        """Draw curves and sheet after the last validation, unless they are drawn."""
        if self.predictions:
            draw_curves(self.log.path, self.out / "curves.png")
            draw_predictions(self.predictions, self.out / "sheet.png")
            self.predictions, self.drawn_at = [], time.monotonic()

    def save(self) -> None:
        """Write all that a later run needs to go on."""
        self.saved_at = time.monotonic()
        if self.group.leads:
            save_last(self.run, self.config, self.out)


def find_data(config: Config) -> Data:
    """Return the photos of the config's folders, those of the `val` split thinned out."""
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
    val = [split["val"][i] for i in np.rint(spread).astype(int)]
    return Data(split["train"], val, backgrounds)
