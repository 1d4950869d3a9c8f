"""Options as they come in requests, and as the API documents show them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.api.base64_json import name_member


def describe_upload(
    options: type[BaseModel],
    media: str,
    aliases: tuple[str, ...],
    *extra: str,
    leave_out: tuple[str, ...] = (),
    takes_json: bool = False,
    examples: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI request body and query parameters of an upload route.

    The routes read bodies themselves (a file may be raw bytes), so the framework cannot. Without
    `aliases` there is no file, only options and perhaps `extra` files. `takes_json`: the body may
    be JSON, files in base64. `examples` are options by title.
    """
    schema = options.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = {k: v for k, v in schema["properties"].items() if k not in leave_out}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    files = {name: file | {"description": "optional"} for name in extra}
    content: dict[str, Any] = {}
    required = list(aliases[:1])
    if aliases:
        names = f"; `{'` and `'.join(aliases[1:])}` are accepted names too"
        text = f"the {media}" + (names if aliases[1:] else "")
        files = {aliases[0]: file | {"description": text}} | files
        content[f"{media}/*"] = {"schema": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": required, "properties": files | fields}
    shown = {title: {"value": dict(value)} for title, value in (examples or {}).items()}
    content["multipart/form-data"] = {"schema": form} | ({"examples": shown} if shown else {})
    if takes_json:
        own = [name_member(media)] if aliases else []
        texts = [*own, *map(name_member, extra)]
        members = {name: {"type": "string", "contentEncoding": "base64"} for name in texts}
        document = {"type": "object", "required": own, "properties": members | fields}
        content["application/json"] = {"schema": document}
    return {
        "requestBody": {"required": bool(aliases), "content": content},
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": field.get("description", ""),
                "schema": field,
            }
            for name, field in fields.items()
        ],
    }
