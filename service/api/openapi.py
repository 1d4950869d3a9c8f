"""The OpenAPI document: request bodies with their options, keys, the error body."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.api.auth import PROTECTED_PREFIXES
from service.api.base64_json import name_member
from service.api.problems import REMOVEBG_PREFIX
from service.options import describe_option

# Generators of clients know one word for a file, OpenAPI 3.1 the other.
FILE = {
    "type": "string",
    "format": "binary",
    "contentMediaType": "application/octet-stream",
}
# What every request may bring.
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    "description": "an id of your own, for the answer and the log",
}
HIDDEN = ("title", "default", "anyOf")
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "one of MATTING_API_KEYS"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same"},
}
TEXT, NUMBER = {"type": "string"}, {"type": "number"}
PROBLEM = {
    "type": "object",
    "description": "A problem document, RFC 9457",
    "required": ["type", "title", "status", "detail", "code", "instance"],
    "properties": {
        "type": TEXT | {"description": "`/problems/` and the code"},
        "title": TEXT | {"description": "the kind of problem, in words"},
        "status": {"type": "integer", "description": "of the answer"},
        "detail": TEXT | {"description": "what was wrong this time"},
        "code": TEXT | {"description": "the kind of problem, for programs"},
        "instance": TEXT | {"description": "the request id, also in `X-Request-ID`"},
        "hint": TEXT | {"description": "what to do"},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"loc": TEXT, "msg": TEXT}},
            "description": "options that cannot be used",
        },
        "limit": NUMBER | {"description": "what is allowed, in the unit that `detail` names"},
        "actual": NUMBER | {"description": "what came"},
        "expected_sequence": {"type": "integer", "description": "of the chunk that is due"},
    },
}
REMOVEBG_ERRORS = {
    "type": "object",
    "description": "The errors of remove.bg",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["title", "code"],
                "properties": {"title": TEXT, "code": TEXT, "detail": TEXT},
            },
        }
    },
}


def describe_upload(
    options: type[BaseModel],
    media: str,
    aliases: tuple[str, ...],
    *extra: str,
    leave_out: tuple[str, ...] = (),
    takes_json: bool = False,
    takes_url: bool = False,
    examples: Mapping[str, Mapping[str, Any]] | None = None,
    headers: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the OpenAPI request body and header parameters of an upload route.

    The routes read bodies themselves (a file may be raw bytes), so the framework cannot. Without
    `aliases` there is no file, only options and perhaps `extra` files. `takes_json`: the body may
    be JSON, files in base64; `takes_url`, that the option `url` may stand for the file. `examples`
    are options by title.

    A body of raw bytes takes its options from the query; OpenAPI cannot tie parameters to a content
    type, and every option would be listed twice, so the text says it.
    """
    schema = options.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = {
        name: describe_field(field)
        for name, field in schema["properties"].items()
        if name not in leave_out
    }
    files = {name: FILE | {"description": "optional"} for name in extra}
    content: dict[str, Any] = {}
    required = [] if takes_url else list(aliases[:1])
    if takes_url:
        text = "where the file is, instead of it; only where the operator allows it"
        fields["url"] = {"type": "string", "format": "uri", "description": text}
    if aliases:
        names = f"; `{'` and `'.join(aliases[1:])}` are accepted names too"
        text = f"the {media}" + (names if aliases[1:] else "")
        files = {aliases[0]: FILE | {"description": text}} | files
    form = {"type": "object", "required": required, "properties": files | fields}
    shown = {title: {"value": dict(value)} for title, value in (examples or {}).items()}
    # The first one is what API documents show.
    content["multipart/form-data"] = {"schema": form} | ({"examples": shown} if shown else {})
    if takes_json:
        own = [name_member(media)] if aliases else []
        texts = [*own, *map(name_member, extra)]
        members = {name: {"type": "string", "contentEncoding": "base64"} for name in texts}
        document = {
            "type": "object",
            "required": [] if takes_url else own,
            "properties": members | fields,
        }
        content["application/json"] = {"schema": document}
    if aliases:
        text = f"the {media} alone, also as {media}/*; options go into the query"
        content["application/octet-stream"] = {"schema": FILE | {"description": text}}
    return {
        "requestBody": {"required": bool(aliases), "content": content},
        "parameters": [REQUEST_ID, *headers],
    }


def describe_field(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an option as the API documents have it: the default is only text.

    Clients and forms that send what `default` says would send options that have no effect together
    with the others, and those are refused.
    """
    shown = {name: value for name, value in schema.items() if name not in HIDDEN}
    for kind in schema.get("anyOf", ()):
        shown |= kind if kind != {"type": "null"} else {}
    return shown | {"description": describe_option(schema)}


def describe_api(app: FastAPI, needs_key: bool) -> dict[str, Any]:
    """Return the OpenAPI document of the app: with its keys and its own error body."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's, which never come
        components["schemas"].pop(name, None)
    components["schemas"] |= {"Problem": PROBLEM, "RemoveBgErrors": REMOVEBG_ERRORS}
    components["securitySchemes"] = SECURITY_SCHEMES
    security: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
    for path, item in document["paths"].items():
        is_removebg = path.startswith(REMOVEBG_PREFIX)
        media, name = (
            ("application/json", "RemoveBgErrors")
            if is_removebg
            else ("application/problem+json", "Problem")
        )
        schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        answer = {"description": "what was wrong and what to do", "content": {media: schema}}
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {"4XX": answer, "5XX": answer}
            if path.startswith(PROTECTED_PREFIXES):
                operation["security"] = security if needs_key else [*security, {}]
    return document


def install_document(app: FastAPI, needs_key: bool) -> None:
    """Let `/openapi.json` answer `describe_api`, made when it is asked for first."""
    app.openapi = functools.cache(lambda: describe_api(app, needs_key))  # type: ignore[method-assign]
