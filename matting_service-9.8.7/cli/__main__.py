"""The `matte` command: dispatches to the `main` function of the subcommand's module."""

import difflib
import importlib
import sys
from dataclasses import dataclass
from importlib.metadata import version

# What comes with an extra, and so is not there after `make serve` or in an image.
OPTIONAL = ("matplotlib", "onnx", "onnxruntime", "onnxscript", "torch")
LIKENESS = 0.5  # a name less like than this is no typing mistake


@dataclass(frozen=True)
class Command:
    """A module with `main(argv) -> int`, imported only when its command is given."""

    module: str
    help: str


COMMANDS = {
    "serve": Command("service.__main__", "start the HTTP service"),
    "video": Command("cli.video", "matte a clip on this machine, without the service"),
    "export": Command("export.__main__", "turn a checkpoint into one verified ONNX file"),
    "train": Command("training.commands.train", "train the network as a config says"),
    "adapt": Command("training.commands.adapt", "adapt a network to unlabelled clips"),
    "pack": Command("training.commands.pack", "keep the weights of a checkpoint, at half the size"),
    "evaluate": Command("training.commands.evaluate", "measure mattes against true ones"),
    "bench": Command("training.commands.bench", "print the size and speed of a network"),
    "live": Command("cli.live", "send a webcam or a clip through the live socket of a service"),
    "models": Command("cli.models", "fetch the official weights, or add a network of others"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command with the arguments after its name; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(describe_commands(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"matte {version('matting-service')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(describe_unknown(name), file=sys.stderr)
        return 2
    try:
        return importlib.import_module(COMMANDS[name].module).main(rest)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        print(
            f"matte {name} needs {error.name}: `make setup` in a checkout of the project installs "
            "what training and export need",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:  # before the command was there to say something about it
        return 130


def describe_commands() -> str:
    """Return the text of `matte --help`."""
    lines = ["usage: matte COMMAND [ARGUMENTS]", ""]
    lines += [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    lines += ["", "`matte COMMAND --help` explains a command, `matte --version` tells the version."]
    return "\n".join(lines)


def describe_unknown(name: str) -> str:
    """Return one line that names the nearest valid command, or all when none is near."""
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=LIKENESS)
    hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
    return f"matte: unknown command {name!r}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
