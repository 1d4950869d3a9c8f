"""The `matte` command: `matte COMMAND ...` is `main([...])` of the module that owns the command."""

import difflib
import importlib
import sys
from dataclasses import dataclass

# Modules that come with an extra, and the extras that bring them.
EXTRAS = {
    "onnx": "export,cpu",
    "onnxscript": "export,cpu",
    "torch": "export,cpu",
    "onnxruntime": "openvino",
    "matplotlib": "train",
}


@dataclass(frozen=True)
class Command:
    """A module with `main(argv) -> int`, imported only when its command is given."""

    module: str
    help: str


COMMANDS = {
    "serve": Command("service.__main__", "start the HTTP service"),
    "video": Command("cli.video", "matte a clip on this machine, without the service"),
    "export": Command("export.__main__", "turn a checkpoint into one verified ONNX file"),
    "train": Command("training.train", "train the network as a config says"),
    "adapt": Command("training.adapt", "adapt a network to your own clips, without labels"),
    "pack": Command("training.pack", "keep the weights of a checkpoint, at half the size"),
    "evaluate": Command("training.evaluate", "measure a network's mattes against true ones"),
    "bench": Command("training.bench", "print parameters, multiply-adds and speed of a network"),
    "live": Command("cli.live", "send a webcam or a clip through the live socket of a service"),
    "models": Command("cli.models", "fetch the official weights, or add a network of others"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command with the arguments after its name; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(describe_commands(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(describe_unknown(name), file=sys.stderr)
        return 2
    try:
        return importlib.import_module(COMMANDS[name].module).main(rest)
    except ModuleNotFoundError as error:
        extras = EXTRAS.get((error.name or "").partition(".")[0])
        if extras is None:
            raise
        problem = f"matte {name} needs {error.name}: pip install 'matting-service[{extras}]'"
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the command was there to say something about it
        return 130


def describe_commands() -> str:
    """Return the text of `matte --help`."""
    lines = ["usage: matte COMMAND [ARGUMENTS]", ""]
    lines += [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "`matte COMMAND --help` explains a command."])


def describe_unknown(name: str) -> str:
    """Return one line that names the nearest valid command."""
    nearest = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0)[0]
    return f"matte: unknown command {name!r}, did you mean {nearest!r}?"


if __name__ == "__main__":
    sys.exit(main())
