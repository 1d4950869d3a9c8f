"""The progress bar that all commands show."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn


@contextmanager
def open_progress(*columns: ProgressColumn) -> Iterator[Progress]:
    """Show a bar on stderr, if it is a terminal, until the block ends."""
    console = Console(stderr=True)
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        yield progress
