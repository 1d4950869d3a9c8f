"""`matte train CONFIG [--resume] [--out DIR] [--max-minutes N] [--data DIR] ...`.

In the folder `--out`: `best.pt` (averaged weights with the lowest validation MAD, for export),
`last.pt` (everything that `--resume` needs), `log.csv`, `curves.png`, `sheet.png`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from training.commands.common import fail
from training.config import ConfigError, load_config
from training.data.pairs import DataError
from training.data.samples import find_message
from training.loop.stop import Stop, TrainError
from training.loop.train import train
from training.network.checkpoint import CheckpointError


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says, field for field."""

    config: Path
    resume: bool
    out: Path | None
    max_minutes: float | None
    data: list[str] | None
    init: str | None


def run(options: TrainOptions) -> None:
    """Train as the config says, with what the options say in its place."""
    out = options.out or Path("runs") / options.config.stem
    try:
        config = load_config(options.config)
        if options.data:
            # The weights are named after the config's own folders.
            data = replace(
                config.data, folders=tuple(options.data), backgrounds=(), synthetic=0, weights={}
            )
            config = replace(config, data=data)
        if options.init:
            config = replace(config, model=replace(config.model, init=options.init))
        with Stop(options.max_minutes) as stop:
            train(config, out, options.resume, stop, Console())
    except DataError as error:
        fail(find_message(error))
    except (ConfigError, CheckpointError, TrainError, OSError) as error:
        fail(str(error))
