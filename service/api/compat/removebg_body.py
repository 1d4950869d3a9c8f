"""Request bodies of remove.bg's clients: multipart, urlencoded forms and JSON."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.datastructures import UploadFile

from service.api.base64_json import decode_base64, load_pairs
from service.api.compat.removebg import RemoveBgOptions, refuse
from service.api.multipart import MAX_FIELDS, read_multipart, read_text
from service.api.uploads import (
    FORM_TYPE,
    MAX_FIELD_BYTES,
    MULTIPART_TYPE,
    merge_options,
    read_content_type,
    spool_body,
)
from service.errors import BadRequest, refuse_size
from service.stills.encode import JSON_TYPE

IMAGE, IMAGE_B64, BACKGROUND = "image_file", "image_file_b64", "bg_image_file"
IMAGE_URL, BG_URL = ADDRESSES = ("image_url", "bg_image_url")
PICTURES = (IMAGE, IMAGE_B64, BACKGROUND)
HOW = "send image_file (multipart) or image_file_b64 (multipart, form or JSON)"


@dataclass(frozen=True)
class RemoveBgBody:
    """What came: the image, the picture to put behind the person, the other parameters.

    `addresses` are those that came in place of pictures, by parameter.
    """

    image: bytes | None
    background: bytes | None
    options: dict[str, Any]
    addresses: dict[str, str] = field(default_factory=dict)


async def read_removebg_body(request: Request, limit_bytes: int, *, fetches: bool) -> RemoveBgBody:
    """Read a request; a picture may have `limit_bytes`; `fetches`: addresses may come, too.

    Raises BadRequest, InvalidOption and PayloadTooLarge, with remove.bg's codes.
    """
    kind = read_content_type(request)
    given: list[tuple[str, Any]]
    if kind == MULTIPART_TYPE:
        # One file more than there can be, so that the answer says what is wrong with it.
        async with read_multipart(
            request, (IMAGE, BACKGROUND), max_files=3, max_field_bytes=limit_bytes * 3 // 2
        ) as parts:
            given = [(name, await _read_part(part)) for name, part in parts.multi_items()]
    elif kind == FORM_TYPE:
        given = await _parse_spooled(request, parse_form, limit_bytes)
    elif kind == JSON_TYPE:
        given = await _parse_spooled(request, partial(load_pairs, hint=HOW), limit_bytes)
    else:
        raise BadRequest(
            f"No image given: the content type is {kind[:64] or 'missing'}",
            hint=f"{HOW} with its content type",
            removebg_code="missing_source",
        )
    everything = [*request.query_params.multi_items(), *given]
    return await asyncio.to_thread(sort_given, everything, limit_bytes, fetches)


async def _parse_spooled(
    request: Request, parse: Callable[[bytes], list[tuple[str, Any]]], limit_bytes: int
) -> list[tuple[str, Any]]:
    """Return what a body has that was whole on disk before memory was taken for it."""
    most = limit_bytes * 3 // 2 + MAX_FIELD_BYTES  # base64, its `+` and `/` as %XX
    async with spool_body(request, "body", most) as spool:
        return await asyncio.to_thread(lambda: parse(spool.read()))


async def _read_part(part: UploadFile | str) -> bytes | str:
    if isinstance(part, str):
        return part
    if text := read_text(part):
        return text
    data = await part.read()
    return data if data or part.filename else ""  # a file field that was left empty


def parse_form(content: bytes) -> list[tuple[str, Any]]:
    """Return the fields of a urlencoded form, of which one may have megabytes; raises BadRequest.

    The framework's own parser copies a long field again with every piece that arrives.
    """
    try:
        text = content.decode("ascii", "replace")
        return [*parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)]
    except ValueError:
        raise BadRequest(f"the form has more than {MAX_FIELDS} fields") from None


def sort_given(
    given: Iterable[tuple[str, Any]], limit_bytes: int, fetches: bool = False
) -> RemoveBgBody:
    """Tell pictures and parameters apart; what is empty counts as not given."""
    pictures: dict[str, bytes] = {}
    options: list[tuple[str, Any]] = []
    addresses: dict[str, str] = {}
    for name, value in given:
        if value is None or value == "":
            continue
        if name in ADDRESSES and fetches:
            if name in addresses or not isinstance(value, str):
                raise refuse(f"{name} must come once, as text", f"invalid_{name}")
            addresses[name] = value
            continue
        if name in ADDRESSES:
            raise refuse(
                f"{name} is not supported: this server fetches no addresses",
                f"invalid_{name}",
                hint=HOW if name == "image_url" else f"send {BACKGROUND}",
            )
        if name in pictures:
            raise refuse(f"{name} came twice", "multiple_sources")
        if name in PICTURES:
            pictures[name] = read_picture(name, value, limit_bytes)
        elif isinstance(value, bytes):
            known = name in RemoveBgOptions.model_fields
            what = "is not a file" if known else "is no part that this server knows"
            raise refuse(f"`{name[:64]}` {what}", "unknown_parameter", hint=HOW)
        else:
            options.append((name, value))
    if IMAGE in pictures and IMAGE_B64 in pictures:
        raise refuse(f"{IMAGE} and {IMAGE_B64} are both given", "multiple_sources")
    image = pictures.get(IMAGE, pictures.get(IMAGE_B64))
    sources = (image, addresses.get(IMAGE_URL)), (pictures.get(BACKGROUND), addresses.get(BG_URL))
    if any(picture is not None and address for picture, address in sources):
        raise refuse("a picture and its address are both given", "multiple_sources")
    if image is None and IMAGE_URL not in addresses:
        raise BadRequest("No image given", hint=HOW, removebg_code="missing_source")
    return RemoveBgBody(image, pictures.get(BACKGROUND), merge_options(options), addresses)


def read_picture(name: str, value: Any, limit_bytes: int) -> bytes:
    """Return the bytes of a picture that came as a file or in base64."""
    if name == IMAGE_B64:
        try:
            return decode_base64(name, value, limit_bytes)
        except BadRequest as error:
            error.removebg_code = "failed_to_read_image"
            raise
    if not isinstance(value, bytes):
        raise BadRequest(
            f"No image given: {name} is not a file part",
            hint=f"it goes as a file of multipart/form-data; {HOW}",
            removebg_code="missing_source",
        )
    if len(value) > limit_bytes:
        raise refuse_size("file", limit_bytes, len(value))
    return value
