"""What a training run is made of, read from one TOML file.

Every field of the file is a field here; an unknown one is refused with the nearest known name.
Paths are relative to the folder in which the command is given.
"""

import difflib
import json
import tomllib
import typing
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")
CROSS_ENTROPY = 0.2  # see StageConfig

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=32, multiple_of=32)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """A config cannot be used; the message is one line that names the file and the field."""


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """The network and where it starts."""

    network: Literal["modnet", "fast"] = "modnet"
    width: Positive = 1.0
    # Of MODNet alone.
    hr_channels: Count = 32
    # A fourth input channel of the backbone sees the trimap.
    trimap_input: bool = False
    # A checkpoint of any kind, or a `.npz` of the backbone alone; empty: random weights.
    init: str = ""
    # A checkpoint whose mattes are mixed into the labels with this share (distillation).
    teacher: str = ""
    teacher_share: Share = 0.5


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """Photos and how they are composed. Shares are probabilities per sample."""

    # Data sets in the layouts of training/data/pairs.py; their `backgrounds` are used too.
    folders: tuple[str, ...] = ()
    # More folders of pictures without people.
    backgrounds: tuple[str, ...] = ()
    # Draw this many photos of stick people instead: for tests and a first try.
    synthetic: CountOrZero = 0
    cache: str = "data/cache"
    max_side: Count = 768
    workers: CountOrZero = 1
    paste_share: Share = 0.6
    empty_share: Share = 0.08
    # Share of the pasted samples that get a second person behind the first.
    second_person_share: Share = 0.1
    # A kind of photos (the first folder of their names) is drawn in proportion to its number of
    # photos to this power, times the weights named after the kind and after its data set.
    balance: Share = 1.0
    weights: dict[str, Factor] = field(default_factory=dict)
    # Photos with large errors are drawn up to so many times as often as others of their kind.
    hard_cap: Annotated[float, Field(ge=1)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.paste_share + self.empty_share > 1:
            raise ValueError("paste_share and empty_share add up to more than 1")
        return self


@dataclass(frozen=True, config=STRICT)
class ValidationConfig:
    """What is measured after each epoch, with the averaged weights."""

    ref_size: Annotated[int, Field(ge=32)] = 512
    # Evenly spread over the `val` split; 0: all of it.
    photos: CountOrZero = 0
    # Rows of the sheet of mattes.
    sheet_photos: Count = 8


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """A part of the run with its own branches, sizes and optimiser."""

    name: str
    epochs: Count
    # Two or more: batch norm needs them.
    batch_size: Annotated[int, Field(ge=2)]
    # Each batch is of one of these (height, width), multiples of 32.
    sizes: Annotated[tuple[tuple[Side, Side], ...], Field(min_length=1)]
    lr: Positive
    # "lr": MODNet's low-resolution branch alone, which carries the semantics; "hr": its detail and
    # fusion branches, the rest frozen.
    branches: Literal["all", "lr", "hr"] = "all"
    # The first blocks of the backbone stay as they are, norms included; 5: the stem and 4 blocks.
    frozen_blocks: Annotated[int, Field(ge=0, le=18)] = 0
    # Weight of the worst tenth of the cells of the semantic prediction ("lr" and the fast network),
    # between these shares of the stage.
    hard_cells: Factor = 0.0
    hard_cells_span: tuple[Share, Share] = (0.1, 0.8)
    # Weight of the cross entropy of the fast network's matte beside its absolute error: with much
    # of it a matte is the mean of what is likely, with little of it the median.
    cross_entropy: Factor = CROSS_ENTROPY
    # Instead of data.paste_share and data.empty_share.
    paste_share: Share | None = None
    empty_share: Share | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "step"] = "cosine"
    # Share of the stage over which lr rises from 0.
    warmup: Share = 0.0
    # "cosine" ends at this share of lr.
    final_lr_factor: Factor = 0.01
    # "step" multiplies lr by `step_factor` every `step_epochs` epochs.
    step_epochs: Count = 10
    step_factor: Factor = 0.1
    backbone_lr_factor: Factor = 1.0
    momentum: Share = 0.9
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Factor = 0.0
    # Largest norm of all gradients together; 0: not clipped.
    grad_clip: Factor = 0.0


@dataclass(frozen=True, config=STRICT)
class Config:
    """A whole run."""

    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    seed: CountOrZero = 0
    # Photos per epoch; 0: as many as there are.
    epoch_photos: CountOrZero = 0
    detail_loss: Literal["l1", "bce"] = "l1"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    # On a CPU: norms and activations in one kernel, built at first use where there is a compiler.
    fused_norms: bool = False
    # Processes of one thread each that share every batch, on a CPU.
    processes: Count = 1
    # Batch norm sees one of so many equal parts of a batch at a time; 0: as many as `processes`.
    batch_parts: CountOrZero = 0
    # Of the weights that are validated and kept; the average is shorter at the start.
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    # Rows of log.csv and lines on a screen that is none.
    log_steps: Count = 25
    # All that --resume needs is written after each epoch, and in between after so long.
    save_minutes: Positive = 10.0
    # 0: as many as torch thinks right.
    threads: CountOrZero = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.parts % self.processes:
            raise ValueError("batch_parts must be a multiple of processes")
        if self.processes > 1 and (self.precision == "float16" or self.threads > 1):
            raise ValueError("processes run on a CPU with one thread each: no float16, no threads")
        for index, stage in enumerate(self.stages):
            if stage.batch_size % self.parts or stage.batch_size == self.parts:
                problem = f"must be a multiple of the {self.parts} parts of a batch, 2 each or more"
                raise ValueError(f"stages[{index}].batch_size {problem}")
            if self.model.network == "fast" and stage.branches != "all":
                raise ValueError(f"stages[{index}].branches must be all: only MODNet has others")
            if sum(self.read_shares(stage)) > 1:
                raise ValueError(f"stages[{index}]: its paste and empty shares are more than 1")
        return self

    def read_shares(self, stage: StageConfig) -> tuple[float, float]:
        """Return the shares of montages with people and of pictures without any in a stage."""
        paste, empty = stage.paste_share, stage.empty_share
        return (
            self.data.paste_share if paste is None else paste,
            self.data.empty_share if empty is None else empty,
        )

    @property
    def parts(self) -> int:
        """Into how many parts a batch is cut for batch norm."""
        return self.batch_parts or self.processes


def load_config(path: Path) -> Config:
    """Read a config, or raise ConfigError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        # By way of JSON, whose strict rules take a list for a tuple and 1 for 1.0, but not "1".
        text = json.dumps(content, default=str)
        return TypeAdapter(Config).validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_problem(error)}") from None


def describe_problem(error: ValidationError) -> str:
    """Return the first problem as one line that begins with the dotted name of the field."""
    problem = error.errors(include_url=False)[0]
    where = join_names(problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        *parents, name = problem["loc"]
        nearest = difflib.get_close_matches(str(name), list_fields(parents), n=1, cutoff=0)[0]
        return f"unknown {where}, did you mean {join_names((*parents, nearest))}?"
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "value_error":  # of a check above, which names the field
        return f"{where}.{problem['ctx']['error']}".lstrip(".")
    if problem["type"] == "dataclass_type":
        return f"{where} must be a table, is {problem['input']!r}"
    text = (
        problem["msg"].replace("Input ", "").replace("Tuple ", "").replace(" after validation", "")
    )
    return f"{where} {text}, is {problem['input']!r}"


def join_names(location: typing.Iterable[int | str]) -> str:
    """Return `stages[0].lr` for ("stages", 0, "lr")."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).lstrip(".")


def list_fields(location: typing.Iterable[int | str]) -> list[str]:
    """Return the names that a table of the config may hold."""
    kind: Any = Config
    for part in location:
        if is_dataclass(kind):
            kind = typing.get_type_hints(kind)[str(part)]  # without the limits around the type
        else:
            kind = typing.get_args(kind)[0]
    return [item.name for item in fields(kind)]
