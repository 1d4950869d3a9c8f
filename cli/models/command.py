"""`matte models`: get networks to serve."""

import typer

from cli.models.add import add
from cli.models.pull import pull

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", help="Get networks to serve.")
app.command()(pull)
app.command()(add)
