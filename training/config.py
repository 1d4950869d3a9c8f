"""What a training run is made of: frozen dataclasses, read from one TOML file.

Every field of the file is a field here; an unknown one is refused with the nearest known name.
Paths are relative to the folder in which the command is given.
"""

import dataclasses
import difflib
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


class ConfigError(ValueError):
    """A config cannot be used; the message is one line that names the file and the field."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and where it starts."""

    width: float = 1.0
    hr_channels: int = 32
    # A fourth input channel of the backbone sees the trimap.
    trimap_input: bool = False
    # A checkpoint of any kind, or a `.npz` of the backbone alone; empty: random weights.
    init: str = ""


@dataclass(frozen=True)
class DataConfig:
    """Photos and how they are composed. Shares are probabilities per sample."""

    # Data sets in the layouts of training/data.py; their `backgrounds` folders are used too.
    folders: tuple[str, ...] = ()
    # More folders of pictures without people.
    backgrounds: tuple[str, ...] = ()
    # Draw this many photos of stick people instead: for tests and a first try.
    synthetic: int = 0
    cache: str = "data/cache"
    max_side: int = 768
    workers: int = 1
    paste_share: float = 0.6
    empty_share: float = 0.08
    # Share of the pasted samples that get a second person behind the first.
    second_person_share: float = 0.1


@dataclass(frozen=True)
class ValidationConfig:
    """What is measured after each epoch, with the averaged weights."""

    ref_size: int = 512
    # Evenly spread over the `val` split; 0: all of it.
    photos: int = 0
    # Rows of the sheet of mattes.
    sheet_photos: int = 8


@dataclass(frozen=True)
class StageConfig:
    """A part of the run with its own branches, sizes and optimiser."""

    name: str
    epochs: int
    batch_size: int
    # Each batch is of one of these (height, width), multiples of 32.
    sizes: tuple[tuple[int, int], ...]
    lr: float
    # "lr": the low-resolution branch alone, 2.4 times as fast; it carries the semantics.
    branches: Literal["all", "lr"] = "all"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "step"] = "cosine"
    # Share of the stage over which lr rises from 0.
    warmup: float = 0.0
    # "cosine" ends at this share of lr.
    final_lr_factor: float = 0.01
    # "step" multiplies lr by `step_factor` every `step_epochs` epochs.
    step_epochs: int = 10
    step_factor: float = 0.1
    backbone_lr_factor: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    # Largest norm of all gradients together; 0: not clipped.
    grad_clip: float = 0.0


@dataclass(frozen=True)
class Config:
    """A whole run."""

    stages: tuple[StageConfig, ...]
    seed: int = 0
    # Photos per epoch; 0: as many as there are.
    epoch_photos: int = 0
    detail_loss: Literal["l1", "bce"] = "l1"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    # Of the weights that are validated and kept; the average is shorter at the start.
    ema_decay: float = 0.998
    # Rows of log.csv and lines on a screen that is none.
    log_steps: int = 25
    # 0: as many as torch thinks right.
    threads: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)


def load_config(path: Path) -> Config:
    """Read a config, or raise ConfigError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        config = convert(content, Config, "")
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def convert(value: Any, kind: Any, where: str) -> Any:
    """Return a TOML value as the annotated kind; `where` is its dotted name, for messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a table")
        return convert_table(value, kind, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, is {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must hold {len(kinds)} values, is {value!r}")
        items = enumerate(zip(value, kinds, strict=True))
        return tuple(convert(item, kind, f"{where}[{i}]") for i, (item, kind) in items)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(arguments)}, is {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of type {kind.__name__}, is {value!r}")
    return value


def convert_table(table: dict[str, Any], kind: type, where: str) -> Any:
    """Return a TOML table as a dataclass."""
    fields = {item.name: item for item in dataclasses.fields(kind)}
    prefix = f"{where}." if where else ""
    for name in table:
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, n=1, cutoff=0)[0]
            raise ConfigError(f"unknown {prefix}{name}, did you mean {prefix}{nearest}?")
    for name, item in fields.items():
        is_required = item.default is item.default_factory is dataclasses.MISSING
        if is_required and name not in table:
            raise ConfigError(f"{prefix}{name} is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{n: convert(v, hints[n], f"{prefix}{n}") for n, v in table.items()})


def check(config: Config) -> None:
    """Raise ConfigError for values that no run can use."""
    positive = {"epoch_photos": config.epoch_photos + 1, "log_steps": config.log_steps}
    positive |= {"data.max_side": config.data.max_side, "data.workers": config.data.workers + 1}
    shares = {
        f"data.{name}": getattr(config.data, name)
        for name in ("paste_share", "empty_share", "second_person_share")
    }
    if not config.stages:
        raise ConfigError("stages must hold at least one")
    for i, stage in enumerate(config.stages):
        names = ("epochs", "batch_size", "step_epochs", "lr")
        positive |= {f"stages[{i}].{name}": getattr(stage, name) for name in names}
        shares |= {f"stages[{i}].warmup": stage.warmup}
        if stage.batch_size == 1:
            raise ConfigError(f"stages[{i}].batch_size must be 2 or more: batch norm needs it")
        if not stage.sizes or any(side <= 0 or side % 32 for size in stage.sizes for side in size):
            raise ConfigError(f"stages[{i}].sizes must hold multiples of 32, is {stage.sizes}")
    for name, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{name} is too small")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} must lie between 0 and 1, is {value}")
    if config.data.paste_share + config.data.empty_share > 1:
        raise ConfigError("data.paste_share and data.empty_share add up to more than 1")
    if config.validation.ref_size < 32:
        raise ConfigError(
            f"validation.ref_size must be 32 or more, is {config.validation.ref_size}"
        )
    if not 0 <= config.ema_decay < 1:
        raise ConfigError(f"ema_decay must lie in [0, 1), is {config.ema_decay}")
