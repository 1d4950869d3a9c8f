"""Print the reference of docs/cli.md, a table of each command, from the commands themselves.

python docs/make_cli.py
"""

from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from cli.flags import PANEL
from cli.group import COMMANDS, load

ROUTES = {"image": "POST /v1/image", "folder": "POST /v1/image", "video": "POST /v1/video"}
PLAIN = {"int": "N", "int range": "N", "float": "N", "str": "TEXT"}  # of Typer's names of types


def describe_command(command: TyperCommand | TyperGroup, path: str) -> Iterator[str]:
    """Yield the lines of a command: its title, what it does, its arguments and options."""
    if isinstance(command, TyperGroup):
        for name, part in command.commands.items():
            yield from describe_command(part, f"{path} {name}")
        return
    context = typer.Context(command, info_name=path)
    yield from ("", f"### `{path}`", "")
    yield " ".join((command.help or "").split("\n\n")[0].split())
    rows = [row for one in command.params if (row := describe_parameter(one, context))]
    if rows:
        yield from ("", "| argument or option | default | meaning |", "|---|---|---|")
        for row in rows:
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    if path.split()[-1] in ROUTES:
        route = ROUTES[path.split()[-1]]
        yield from ("", f"And the [options](options.md) of `{route}`, as flags.")


def describe_parameter(
    one: typer.core.TyperArgument | TyperOption, context: typer.Context
) -> tuple[str, str, str] | None:
    """Return the cells of an argument or option; None for one that the page on options has."""
    if one.rich_help_panel == PANEL:
        return None
    if not isinstance(one, TyperOption):
        name = one.human_readable_name.upper()
    elif one.is_flag:
        name = one.opts[0]
    else:
        metavar = one.make_metavar(context).strip("<>")
        name = f"{one.opts[0]} {PLAIN.get(metavar, metavar)}"
    default = one.default
    if isinstance(one.show_default, str):
        shown = one.show_default
    else:
        shown = "" if default is None or default is False else f"`{default}`"
    meaning = one.help or ""
    if one.envvar:
        meaning = f"{meaning} (`{one.envvar}`)".lstrip()
    return f"`{name}`", "needed" if one.required else shown, meaning


def main() -> None:
    lines = [line for name in COMMANDS for line in describe_command(load(name), f"matte {name}")]
    print("\n".join(lines[1:]))


if __name__ == "__main__":
    main()
