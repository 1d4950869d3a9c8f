"""All that changes while a run goes on, and how it is written down and taken up again."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.config import Config
from training.data.sampling import PhotoErrors
from training.loop.optimizer import Average, make_optimizer
from training.loop.validation import Scores
from training.network.checkpoint import (
    CheckpointError,
    canonicalise_state,
    load_model,
    load_state,
    read_checkpoint,
    save_checkpoint,
)
from training.network.fast import FastNet
from training.network.fused_norm import fuse_norms
from training.network.modnet import MODNet
from training.network.networks import Network, make_network
from training.network.strided import speed_up_strided

BEST, LAST = "best.pt", "last.pt"
BACKBONE_PREFIX = "backbone.model."


class RunState:
    """Model, average, optimiser and counters. `step` counts in the stage, the others overall."""

    def __init__(
        self, model: Network, config: Config, device: torch.device, errors: PhotoErrors
    ) -> None:
        self.device, self.errors = device, errors
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.average = Average(model.to(device, memory_format=layout), config.ema_decay)
        self.model = model
        self.teacher = load_teacher(config, device)
        if device.type == "cpu":
            speed_up_strided(model)
            if config.fused_norms:
                fuse_norms(model)
        for conv in model.heads:
            # In half precision a sigmoid reaches 1 at 0.998, and its gradient 0.
            conv.register_forward_hook(lambda module, inputs, output: output.float())
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.updates = self.photos = 0
        self.best_mad = math.inf
        self.enter_stage(config, 0)

    def enter_stage(self, config: Config, stage: int) -> None:
        """Begin a stage with a fresh optimiser; after the last one there is none."""
        self.stage, self.step, self.optimizer = stage, 0, None
        self.errors.forget()  # a stage may measure them in its own way
        if stage < len(config.stages):
            self.optimizer = make_optimizer(self.model, config.stages[stage])

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def load_teacher(config: Config, device: torch.device) -> Network | None:
    """Return the network whose mattes are learnt from beside the labels, if there is one."""
    if not config.model.teacher:
        return None
    teacher = load_model(config.model.teacher).requires_grad_(False)
    if teacher.architecture["in_channels"] != 3:
        raise CheckpointError(f"{config.model.teacher}: a teacher must do without a trimap")
    return teacher.to(device, memory_format=torch.channels_last)


def begin_run(config: Config, out: Path, device: torch.device, errors: PhotoErrors) -> RunState:
    """Return a new run, from the weights that the config names."""
    if (out / LAST).exists():
        raise CheckpointError(f"{out / LAST} exists: go on with --resume, or choose another --out")
    model = make_model(config)
    if config.model.init:
        initialise(model, Path(config.model.init))
    return RunState(model, config, device, errors)


def make_model(config: Config) -> Network:
    """Return a network with random weights."""
    architecture = {"in_channels": 4 if config.model.trimap_input else 3}
    architecture["width"] = config.model.width
    if config.model.network == MODNet.name:
        architecture["hr_channels"] = config.model.hr_channels
    return make_network(config.model.network, architecture)


def initialise(model: Network, path: Path) -> None:
    """Copy a checkpoint into the model, or the encoder alone.

    The encoder alone is what a file of MobileNetV2 holds, and what the fast network takes of a
    MODNet. A fourth input channel starts at zero: the network then begins as it was.
    """
    checkpoint = read_checkpoint(path)
    state = checkpoint.state
    if all(key.startswith("features.") for key in state):
        state = {BACKBONE_PREFIX + key: value for key, value in state.items()}
        state = take_encoder(model, state)
    elif (checkpoint.network, model.name) == (MODNet.name, FastNet.name):
        state = take_encoder(model, state)
    stem, wanted = state.get(find_stem(model)), model.encoder[0][0].weight.shape
    if stem is not None and stem.dim() == 4 and stem.shape[1] == 3 < wanted[1]:
        zeros = torch.zeros(stem.shape[0], wanted[1] - 3, *stem.shape[2:])
        state = {**state, find_stem(model): torch.cat([stem, zeros], dim=1)}
    load_state(model, state, str(path))


def take_encoder(model: Network, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's own state with the encoder of MODNet's canonical `state`."""
    own = canonicalise_state(model.state_dict(), "the network")
    if isinstance(model, FastNet):
        state = {key.removeprefix(BACKBONE_PREFIX): value for key, value in state.items()}
        shared = {key for key in own if key.startswith("features.")} & state.keys()
        return own | {key: state[key] for key in shared}
    return own | state


def find_stem(model: Network) -> str:
    """Return the key of the first convolution."""
    return ("" if isinstance(model, FastNet) else BACKBONE_PREFIX) + "features.0.0.weight"


def save_best(run: RunState, scores: Scores, out: Path) -> None:
    """Write the averaged weights, with what they reach."""
    extra = {"scores": scores._asdict(), "photos": run.photos}
    save_atomically(out / BEST, run.average.model, **extra)


def save_last(run: RunState, config: Config, out: Path) -> None:
    """Write everything."""
    save_atomically(
        out / LAST,
        run.model,
        average=run.average.model.state_dict(),
        optimizer=run.optimizer.state_dict() if run.optimizer else None,
        scaler=run.scaler.state_dict(),
        counters={name: getattr(run, name) for name in COUNTERS},
        random_state=torch.get_rng_state(),
        errors=run.errors.state_dict(),
        config=dataclasses.asdict(config),
    )


COUNTERS = ("stage", "step", "updates", "photos", "best_mad")


def save_atomically(path: Path, model: Network, **extra: Any) -> None:
    """Write a checkpoint so that the file is whole whenever somebody looks."""
    part = path.with_name(path.name + ".part")
    save_checkpoint(part, model, **extra)
    os.replace(part, path)


def resume_run(config: Config, out: Path, device: torch.device, errors: PhotoErrors) -> RunState:
    """Return the run that `last.pt` holds, to the bit.

    Raises CheckpointError if there is none, or if the config would have led somewhere else.
    """
    path = out / LAST
    checkpoint = read_checkpoint(path)  # judges the file
    record: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(record.get("counters"), dict):
        raise CheckpointError(f"{path}: holds weights only, no run to resume")
    counters = record["counters"]
    begun = counters["stage"] + (counters["step"] > 0)
    refuse_other_config(path, record["config"], config, begun)
    run = RunState(make_model(config), config, device, errors)
    load_state(run.model, checkpoint.state, str(path))
    average: dict[str, Tensor] = canonicalise_state(record["average"], str(path))
    load_state(run.average.model, average, str(path))
    run.enter_stage(config, counters["stage"])
    run.errors.load_state_dict(record["errors"])
    for name in COUNTERS:
        setattr(run, name, counters[name])
    if record["optimizer"] is not None:
        run.optimizer.load_state_dict(record["optimizer"])
    run.scaler.load_state_dict(record["scaler"])
    torch.set_rng_state(record["random_state"])
    return run


def refuse_other_config(path: Path, stored: dict[str, Any], config: Config, begun: int) -> None:
    """Raise CheckpointError for a change that the steps taken so far would not have seen.

    Free to change: folders, workers, validation, what changes the speed and the rounding alone
    (threads, processes, the fused norms), and the stages after the `begun` first.
    """
    now = dataclasses.asdict(config)
    for record in (stored, now):
        record["stages"] = list(record["stages"])[:begun]
        record["batch_parts"] = record["batch_parts"] or record["processes"]
        names = ("validation", "log_steps", "save_minutes", "threads", "processes", "fused_norms")
        for name in names:
            record.pop(name)
        for name in ("folders", "backgrounds", "cache", "workers"):
            record["data"].pop(name)
    for name, value in flatten(now).items():
        before = flatten(stored).get(name)
        if before != value:
            raise CheckpointError(f"{path}: {name} was {before!r} and is now {value!r}")


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return dotted names and values of a nested dict."""
    if isinstance(value, dict):
        items = [(f"{name}.{key}".lstrip("."), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    else:
        return {name: value}
    return {k: v for key, item in items for k, v in flatten(item, key).items()}
