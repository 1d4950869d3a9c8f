"""The `matte` command: runs a subcommand and turns what it raises into an exit code."""

import contextlib
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.completion import completion_init

from cli.group import Group
from training.commands.common import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, print_error

PROGRAM, COMPLETE_VARIABLE = "matte", "_MATTE_COMPLETE"
# What comes with an extra, and so is not there after `make serve` or in an image.
OF_CLIENT = ("httpx", "matting_client")
OPTIONAL = ("matplotlib", "onnx", "onnxruntime", "onnxscript", "torch", *OF_CLIENT)
app = typer.Typer(cls=Group, add_completion=False, rich_markup_mode="markdown")


def print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"{PROGRAM} {version('matting-service')}")
        raise typer.Exit


@app.callback()
def matte(
    is_asked: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Mattes people in photos and clips, here or on a service.

    `matte COMMAND --help` explains a command. Exit codes: 0 fine, 1 something failed, 2 wrong
    usage, 130 interrupted.
    """


def main(argv: list[str] | None = None) -> int:
    """Run a command with the arguments after its name; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if COMPLETE_VARIABLE in os.environ:  # the script of `matte completion` asks
        completion_init()
    elif not arguments:
        with contextlib.redirect_stdout(sys.stderr):
            run(["--help"])
        return EXIT_USAGE
    try:
        return run(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        if error.name in OF_CLIENT:
            print_error(f"--server needs {error.name}: pip install 'matting-service[client]'")
        else:
            print_error(
                f"matte {arguments[0]} needs {error.name}: `make setup` in a checkout of the "
                "project installs what training and export need"
            )
        return EXIT_FAILED
    except KeyboardInterrupt:  # before the command was there to say something about it
        return EXIT_INTERRUPTED


def run(arguments: list[str]) -> int:
    """Run the command; a mistake of usage is one line on stderr, and exit code 2."""
    try:
        command = typer.main.get_command(app)
        return command.main(arguments, prog_name=PROGRAM, standalone_mode=False) or 0
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        place = context.command_path if context else PROGRAM
        print_error(f"{error.format_message()} (see `{place} --help`)")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
