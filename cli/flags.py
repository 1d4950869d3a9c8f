"""Flags made from the models that check the options of HTTP requests: each option is said once."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import typer
from pydantic import BaseModel

from service.options import describe_option
from service.settings import Settings

Function = TypeVar("Function", bound=Callable[..., None])
PANEL = "Options of the result, as of the HTTP API"
SERVER_PANEL = "On a service instead of here"

Force = Annotated[bool, typer.Option("--force", help="overwrite what is there")]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|NAME",
        help="an ONNX file, or the name of a model that the service has (MATTING_MODELS)",
    ),
]
DeviceName = Annotated[
    Literal[get_args(Settings.model_fields["device"].annotation)] | None,
    typer.Option(help="where the network runs (MATTING_DEVICE)"),
]
BackgroundFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="what is behind the person")
]
HINT_HELP = "strokes on the photo: white keeps, black removes"
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="MATTING_SERVER",
        help="send to this service",
        rich_help_panel=SERVER_PANEL,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", envvar="MATTE_KEY", help="API key", rich_help_panel=SERVER_PANEL
    ),
]


def add_option_flags(
    kind: type[BaseModel], leave_out: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Return a decorator: the function's `**options` become a flag for each field of `kind`.

    What is not given is None. Values stay text: `parse_options` checks them, as those of requests.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        properties = kind.model_json_schema()["properties"]
        flags = [
            make_flag(name, schema) for name, schema in properties.items() if name not in leave_out
        ]
        own = [one.replace(kind=one.KEYWORD_ONLY) for one in own]
        function.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore
        return function

    return decorate


def make_flag(name: str, schema: Mapping[str, Any]) -> inspect.Parameter:
    """Return the parameter of an option, a field of a JSON schema."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    flag = f"--{name.replace('_', '-')}"
    value: Any = str
    metavar: str | None = None
    if "enum" in kinds[0]:
        value = Literal[tuple(kinds[0]["enum"])]
    elif kinds[0]["type"] == "boolean":
        value = bool
    else:
        metavar = "N" if kinds[0]["type"] in ("integer", "number") else "TEXT"
    option = typer.Option(
        flag, metavar=metavar, help=describe_option(schema), rich_help_panel=PANEL
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[value | None, option],
    )


def list_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
