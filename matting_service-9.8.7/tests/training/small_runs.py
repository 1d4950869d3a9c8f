"""Small training runs on drawn figures, and what they leave."""

import dataclasses
import io
from pathlib import Path

import torch
from rich.console import Console

import training
from training.config import Config, load_config
from training.loop.stop import Stop
from training.loop.train import train

TINY = Path(training.__file__).parent / "configs" / "tiny.toml"


class StopAfter(Stop):
    """A reason to stop that comes after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(None)
        self.steps = steps

    @property
    def reason(self) -> str:
        self.steps -= 1
        return "" if self.steps else "enough steps"


def make_config(cache: str, **changes) -> Config:
    """Return a config of two stages, two epochs of four steps each."""
    config = load_config(TINY)
    stages = tuple(
        dataclasses.replace(
            stage, epochs=2, batch_size=2, sizes=((64, 64),), warmup=0.2, grad_clip=1.0
        )
        for stage in config.stages
    )
    data = dataclasses.replace(config.data, synthetic=12, cache=cache)
    model = dataclasses.replace(config.model, width=0.05, hr_channels=4)
    validation = dataclasses.replace(config.validation, ref_size=64, sheet_photos=1)
    config = dataclasses.replace(
        config, stages=stages, data=data, model=model, validation=validation, epoch_photos=8
    )
    return dataclasses.replace(config, log_steps=2, **changes)


def change(config: Config, part: str, **changes) -> Config:
    """Return the config with fields of one of its tables changed."""
    table = dataclasses.replace(getattr(config, part), **changes)
    return dataclasses.replace(config, **{part: table})


def change_stage(config: Config, number: int, **changes) -> Config:
    """Return the config with one stage alone, with fields changed."""
    stage = dataclasses.replace(config.stages[number], **changes)
    return dataclasses.replace(config, stages=(stage,))


def run(config: Config, out: Path, stop: Stop | None = None, is_resumed: bool = False) -> str:
    """Train; return what was printed."""
    text = io.StringIO()
    train(config, out, is_resumed, stop or Stop(None), Console(file=text, width=200))
    return text.getvalue()


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_equal(one, two) -> None:
    """Compare nested records to the bit."""
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    else:
        assert one == two
