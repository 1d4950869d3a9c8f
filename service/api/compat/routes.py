"""Routes compatible with remove.bg and rembg."""

import base64
import json
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.compat.rembg import RembgOptions, map_rembg_options
from service.api.compat.removebg import (
    RemoveBgOptions,
    map_removebg_options,
    parse_removebg_options,
)
from service.api.compat.removebg_body import BACKGROUND, BG_URL, IMAGE, IMAGE_B64, IMAGE_URL
from service.api.compat.removebg_body import read_removebg_body as read_body
from service.api.dependencies import (
    OutgoingDependency,
    ResultsDependency,
    RuntimeDependency,
)
from service.api.disconnect import run_until_disconnect
from service.api.negotiation import parse_accept, weigh
from service.api.openapi import FILE, REQUEST_ID, describe_field, describe_upload
from service.api.uploads import FORM_TYPE, MULTIPART_TYPE, Accepted, merge_options, read_upload
from service.errors import BadRequest, FetchFailed, InvalidOption, UnknownForeground
from service.options import parse_options
from service.outgoing.calls import OutgoingCalls
from service.runtime import Runtime
from service.stills.answer import Answer, make_answer
from service.stills.encode import JSON_TYPE, pack
from service.stills.matte import StillFiles, check_model
from service.stills.metadata import ResultMetadata
from service.stills.options import Format, ImageOptions
from service.stills.result_store import ResultStore

ADDRESS = {"type": "string", "format": "uri"}
router = APIRouter(tags=["compatibility"])
REMOVEBG_TYPES = ("image/png", "image/jpeg", "image/webp", "application/zip", JSON_TYPE)


def describe_removebg() -> dict[str, Any]:
    """Return the OpenAPI request body: the pictures and parameters in three encodings."""
    schema = RemoveBgOptions.model_json_schema()
    text = {"type": "string", "contentEncoding": "base64", "description": "the image in base64"}
    fields = {name: describe_field(field) for name, field in schema["properties"].items()}
    written = {"type": "object", "properties": {IMAGE_B64: text} | fields}
    parts = {IMAGE: FILE, IMAGE_B64: text, BACKGROUND: FILE | {"description": "optional"}}
    multipart = {"type": "object", "properties": parts | fields}
    kinds = {
        MULTIPART_TYPE: multipart,
        FORM_TYPE: written,
        JSON_TYPE: written | {"required": [IMAGE_B64]},
    }
    content = {kind: {"schema": body} for kind, body in kinds.items()}
    return {"requestBody": {"required": True, "content": content}, "parameters": [REQUEST_ID]}


@router.post(
    "/v1.0/removebg",
    summary="Remove a background as remove.bg does",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in REMOVEBG_TYPES}}},
    openapi_extra=describe_removebg(),
)
async def remove_background(
    request: Request,
    runtime: RuntimeDependency,
    results: ResultsDependency,
    outgoing: OutgoingDependency,
) -> Response:
    """Take and answer what remove.bg does, errors included, with `X-Credits-Charged: 0`. What this
    server does not do is refused with 400 and named: parts of an image, other things than people,
    and addresses unless its operator allows them.
    """
    settings = runtime.settings
    body = await read_body(request, settings.image_max_bytes, fetches=settings.url_input)
    asked = parse_removebg_options(body.options)
    has_background = body.background is not None or BG_URL in body.addresses
    options, format = map_removebg_options(asked, has_background)
    found = {
        name: await fetch_picture(request, outgoing, name, url, settings.image_max_bytes)
        for name, url in body.addresses.items()
    }
    image = found.get(IMAGE_URL, body.image)
    assert image is not None
    files = StillFiles(image, background=found.get(BG_URL, body.background))
    answer = await run(request, runtime, results, files, options, format)
    metadata = answer.metadata
    if metadata.subject is None or not metadata.shows_person:
        raise UnknownForeground("no person is in the image", hint="this server finds people")
    content, content_type = await runtime.workers.run(pack, answer.encoded, metadata, format)
    headers = metadata.to_headers() | {"X-Credits-Charged": "0", "Vary": "Accept"}
    if asked.type_level != "none":
        headers["X-Type"] = "person"
    if prefers_json(request.headers.get("accept"), content_type):
        content = await runtime.workers.run(pack_removebg, content, metadata)
        content_type = JSON_TYPE
    return Response(content, headers=headers, media_type=content_type)


async def fetch_picture(
    request: Request, outgoing: OutgoingCalls, name: str, url: str, limit_bytes: int
) -> bytes:
    """Return what an address answers; raises the errors of `fetch` with remove.bg's code."""
    try:
        return await outgoing.fetch_bytes(request.scope["owner"], url, limit_bytes)
    except (FetchFailed, InvalidOption) as error:
        error.removebg_code = f"invalid_{name}"
        raise


def prefers_json(accept: str | None, content_type: str) -> bool:
    """Whether a client wants the picture inside JSON; where it does not care it gets the picture.

    Several HTTP libraries put JSON and */* into every request.
    """
    ranges = parse_accept(accept or "*/*")
    return weigh(JSON_TYPE, ranges) > weigh(content_type, ranges)


def pack_removebg(content: bytes, metadata: ResultMetadata) -> bytes:
    """Return remove.bg's JSON around a result."""
    data: dict[str, Any] = {"result_b64": base64.b64encode(content).decode()}
    if metadata.subject is not None:
        data |= {f"foreground_{name}": value for name, value in vars(metadata.subject).items()}
    return json.dumps({"data": data}).encode()


@router.post(
    "/api/remove",
    summary="Remove a background as rembg's server does",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
    openapi_extra=describe_upload(RembgOptions, "image", ("file",)),
)
async def remove_stream(
    request: Request, runtime: RuntimeDependency, results: ResultsDependency
) -> Response:
    """Take what `rembg s` takes and answer PNG. What this server does not do is refused with 400
    and named; errors are problem documents."""
    accepted = Accepted("image", ("file",), runtime.settings.image_max_bytes)
    async with read_upload(request, accepted) as upload:
        asked = parse_options(RembgOptions, upload.options)
        options = map_rembg_options(asked, runtime.models)
        files = StillFiles(await runtime.files.run(upload.file.read))
    return await answer_rembg(request, runtime, results, files, options)


@router.get(
    "/api/remove",
    summary="Remove a background as rembg's server does, of an image at `url`",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
    openapi_extra={
        "parameters": [{"name": "url", "in": "query", "required": True, "schema": ADDRESS}]
    },
)
async def remove_from_address(
    request: Request,
    runtime: RuntimeDependency,
    results: ResultsDependency,
    outgoing: OutgoingDependency,
) -> Response:
    """Fetch the image at `url`, where the operator allows it; else as `POST /api/remove`."""
    given = merge_options(request.query_params.multi_items())
    url = given.pop("url", None)
    if not runtime.settings.url_input or url is None:
        raise BadRequest(
            "url is missing"
            if runtime.settings.url_input
            else "url is not supported: this server fetches no addresses",
            hint="send the image with POST, as the part `file` of multipart/form-data",
        )
    asked = parse_options(RembgOptions, given)
    options = map_rembg_options(asked, runtime.models)
    image = await outgoing.fetch_bytes(
        request.scope["owner"], url, runtime.settings.image_max_bytes
    )
    async for _ in request.stream():  # only then can a disconnect be waited for
        pass
    return await answer_rembg(request, runtime, results, StillFiles(image), options)


async def answer_rembg(
    request: Request,
    runtime: Runtime,
    results: ResultStore,
    files: StillFiles,
    options: ImageOptions,
) -> Response:
    answer = await run(request, runtime, results, files, options, "png")
    content, content_type = await runtime.workers.run(pack, answer.encoded, answer.metadata, "png")
    return Response(content, headers=answer.metadata.to_headers(), media_type=content_type)


async def run(
    request: Request,
    runtime: Runtime,
    results: ResultStore,
    files: StillFiles,
    options: ImageOptions,
    format: Format,
) -> Answer:
    """Admit and matte one image; the errors are those of `POST /v1/image`."""
    check_model(runtime, options, has_trimap=False)
    with runtime.gate.try_enter(request.scope["owner"]) as ticket:
        making = make_answer(
            runtime, results, files, options, format, ticket, request.scope["owner"]
        )
        return await run_until_disconnect(
            request, making, timeout_s=runtime.settings.request_timeout_s
        )
