"""What the commands of training, export and cli share."""

import argparse
import sys


def fail(message: str, code: int = 1) -> int:
    """Print the message as a single line on stderr; return the exit code."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


def parse_count(text: str) -> int:
    """Return a positive whole number."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
