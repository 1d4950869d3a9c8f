"""What the commands of training, export and cli share."""

import sys
from typing import NoReturn

import typer

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def print_error(message: str) -> None:
    """Print the message as a single line on stderr."""
    print("error: " + " ".join(message.split()), file=sys.stderr)


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """Print the message as a single line on stderr and end the command with this exit code."""
    print_error(message)
    raise typer.Exit(code)


def check_multiple(value: int, of: int) -> int:
    """Return a positive multiple; raises BadParameter, a mistake of usage."""
    if value <= 0 or value % of:
        raise typer.BadParameter(f"{value} is not a positive multiple of {of}")
    return value
