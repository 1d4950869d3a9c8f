"""The group of subcommands: their modules are imported when one is given, not before."""

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

LIKENESS = 0.5  # a name less like than this is no typing mistake


@dataclass(frozen=True)
class Command:
    """Where a subcommand is: a function that Typer makes a command of, or a Typer app of several.

    `help` is its line in `matte --help`, below the title `panel`.
    """

    module: str
    name: str
    help: str
    panel: str


WORK, SERVICE, NETWORKS, MACHINE = "Photos and clips", "Service", "Networks", "This machine"
TRAINING = "cli.training"
COMMANDS = {
    "image": Command("cli.stills.image", "image", "matte one photo", WORK),
    "folder": Command("cli.stills.folder", "folder", "matte every photo of a folder", WORK),
    "video": Command("cli.video.command", "video", "matte a clip", WORK),
    "live": Command(
        "cli.live.command", "live", "send a webcam or a clip through the live socket", WORK
    ),
    "serve": Command("service.__main__", "serve", "start the HTTP service", SERVICE),
    "models": Command(
        "cli.models.command",
        "app",
        "fetch the official weights, or add a network of others",
        NETWORKS,
    ),
    "train": Command(TRAINING, "train", "train the network as a config says", NETWORKS),
    "adapt": Command(TRAINING, "adapt", "adapt a network to unlabelled clips", NETWORKS),
    "evaluate": Command(TRAINING, "evaluate", "measure mattes against true ones", NETWORKS),
    "bench": Command(TRAINING, "bench", "print the size and speed of a network", NETWORKS),
    "pack": Command(
        TRAINING, "pack", "keep the weights of a checkpoint, at half the size", NETWORKS
    ),
    "export": Command(
        "export.__main__", "export", "turn a checkpoint into one verified ONNX file", NETWORKS
    ),
    "doctor": Command("cli.doctor.command", "doctor", "check what works on this machine", MACHINE),
    "completion": Command("cli.completion", "completion", "print a completion script", MACHINE),
}


class Group(TyperGroup):
    """Subcommands of `COMMANDS`; `matte --help` and completion of names import none of them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:
        """Return a stand-in that has a name and a help; the real one is `load`ed to be run."""
        if cmd_name not in COMMANDS:
            return None
        command = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=command.help, rich_help_panel=command.panel)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, *rest = args
        if name in COMMANDS:
            return name, load(name), rest
        if ctx.resilient_parsing:  # a half-typed line is completed
            return None, None, rest
        return ctx.fail(describe_unknown(name))


def load(name: str) -> TyperCommand | TyperGroup:
    """Import a subcommand and return it."""
    command = COMMANDS[name]
    found = getattr(importlib.import_module(command.module), command.name)
    if isinstance(found, typer.Typer):
        app = found
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(name)(found)
    loaded = typer.main.get_command(app)
    loaded.name = name
    return loaded


def describe_unknown(name: str) -> str:
    """Return one line that names the nearest valid command, or all when none is near."""
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=LIKENESS)
    hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
    return f"unknown command {name!r}; {hint}"
