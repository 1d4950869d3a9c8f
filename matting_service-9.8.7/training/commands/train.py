"""`matte train CONFIG [--resume] [--out DIR] [--max-minutes N] [--data DIR] ...`.

In the folder `--out`: `best.pt` (averaged weights with the lowest validation MAD, for export),
`last.pt` (everything that `--resume` needs), `log.csv`, `curves.png`, `sheet.png`.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from rich.console import Console

from training.commands.common import fail
from training.config import ConfigError, load_config
from training.data.pairs import DataError
from training.data.samples import find_message
from training.loop.stop import Stop, TrainError
from training.loop.train import train
from training.network.checkpoint import CheckpointError


def main(argv: list[str] | None = None) -> int:
    """Train as the config says; return the exit code."""
    parser = argparse.ArgumentParser(prog="matte train", description="Train a network.")
    parser.add_argument("config", type=Path, help="a TOML file, see training/configs")
    parser.add_argument("--resume", action="store_true", help="go on from last.pt in --out")
    parser.add_argument("--out", type=Path, help="default: runs/NAME of the config")
    parser.add_argument("--max-minutes", type=float, help="save and stop after this time")
    parser.add_argument("--data", action="append", metavar="DIR", help="instead of data.folders")
    parser.add_argument("--init", metavar="CHECKPOINT", help="instead of model.init")
    arguments = parser.parse_args(argv)
    out = arguments.out or Path("runs") / arguments.config.stem
    try:
        config = load_config(arguments.config)
        if arguments.data:
            # The weights are named after the config's own folders.
            data = dataclasses.replace(
                config.data, folders=tuple(arguments.data), backgrounds=(), synthetic=0, weights={}
            )
            config = dataclasses.replace(config, data=data)
        if arguments.init:
            model = dataclasses.replace(config.model, init=arguments.init)
            config = dataclasses.replace(config, model=model)
        with Stop(arguments.max_minutes) as stop:
            train(config, out, arguments.resume, stop, Console())
    except DataError as error:
        return fail(find_message(error))
    except (ConfigError, CheckpointError, TrainError, OSError) as error:
        return fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
