"""Reading uploads: multipart, raw bytes or JSON, and the options that came with them."""

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from service.api.base64_json import read_json_upload
from service.api.multipart import MAX_FIELDS, read_multipart, read_text
from service.errors import (
    BadRequest,
    InvalidOption,
    PayloadTooLarge,
    UnsupportedMedia,
    refuse_size,
)
from service.scratch import SPOOL_BYTES
from service.stills.encode import JSON_TYPE

MAX_FIELD_BYTES = 64 * 1024
MULTIPART_TYPE, FORM_TYPE = "multipart/form-data", "application/x-www-form-urlencoded"
URL = "url"
T = TypeVar("T")


@dataclass(frozen=True)
class Accepted:
    """What a route takes.

    `media`: first half of the content type of a raw body (`image`, `video`); `names`: of multipart
    parts that are the file; `extra`: of files that may come beside it; `most`: so many files,
    `least`: so few. `takes_json`: the file may come as the member `MEDIA_b64`, the extra ones as
    `NAME_b64` each (`trimap_b64` for `trimap_file`). With `most` 0 there is no file, only options.
    With `takes_url` the option `url` may stand for the file, which is then fetched.
    """

    media: str
    names: tuple[str, ...]
    limit_bytes: int
    extra: tuple[str, ...] = ()
    most: int = 1
    takes_json: bool = False
    least: int = 1
    takes_url: bool = False


@dataclass(frozen=True)
class UploadedFile:
    """An open file, at its start, the name the client gave it, and its part, if any."""

    data: BinaryIO
    name: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class Upload:
    """What came: files, further files by part name, options as text or JSON values."""

    files: list[UploadedFile]
    options: dict[str, Any]
    extra: dict[str, BinaryIO] = field(default_factory=dict)

    @property
    def file(self) -> BinaryIO:
        """The one file of a route that takes one."""
        return self.files[0].data


@asynccontextmanager
async def read_upload(request: Request, accepted: Accepted) -> AsyncIterator[Upload]:
    """Yield what was uploaded; its files are gone afterwards.

    Raises BadRequest, InvalidOption, UnsupportedMedia, PayloadTooLarge.
    """
    kind = read_content_type(request)
    query = request.query_params.multi_items()
    if kind == MULTIPART_TYPE:
        async with read_multipart(
            request,
            (*accepted.names, *accepted.extra) if accepted.most else accepted.extra,
            # One part more than allowed, so that the answer can say how many there were.
            max_files=accepted.most + len(accepted.extra) + 1,
            max_field_bytes=MAX_FIELD_BYTES,
        ) as form:
            yield _sort_form(form, query, accepted)
    elif kind == FORM_TYPE and (fields := await _read_fields(request, query, accepted)) is not None:
        yield Upload([], merge_options([*query, *fields]))
    elif kind == JSON_TYPE and accepted.takes_json:
        # Base64 takes four bytes for three.
        limit_bytes = accepted.limit_bytes * 4 // 3 + MAX_FIELD_BYTES
        async with spool_body(request, "body", limit_bytes) as spool:
            files, extra, members = await asyncio.to_thread(
                lambda: read_json_upload(spool.read(), accepted)
            )
        yield Upload(
            [UploadedFile(io.BytesIO(data)) for data in files],
            merge_options([*query, *members]),
            {name: io.BytesIO(data) for name, data in extra.items()},
        )
    elif not kind and (accepted.most == 0 or (accepted.takes_url and URL in dict(query))):
        async for _ in request.stream():  # only then can a disconnect be waited for
            pass
        yield Upload([], merge_options(query))
    elif accepted.most and (
        kind.startswith(f"{accepted.media}/") or kind == "application/octet-stream"
    ):
        options = merge_options(query)
        async with spool_body(request, "file", accepted.limit_bytes) as spool:
            yield Upload([UploadedFile(spool)], options)
    else:
        raise UnsupportedMedia(
            f"the content type is {kind[:64] or 'missing'}", hint=_explain_types(accepted, kind)
        )


async def _read_fields(
    request: Request, query: list[tuple[str, str]], accepted: Accepted
) -> list[tuple[str, str]] | None:
    """Return the fields of a URL-encoded form; None where a file is missing.

    That is what curl sends a file as when it is told no type. Raises BadRequest.
    """
    try:
        async with spool_body(request, "form", MAX_FIELD_BYTES) as spool:
            text = spool.read().decode(errors="replace")
            fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except PayloadTooLarge:
        if accepted.most:
            return None
        raise
    except ValueError as error:
        if accepted.most:
            return None
        raise BadRequest(f"the form has more than {MAX_FIELDS} fields") from error
    is_whole = accepted.most == 0 or (accepted.takes_url and URL in dict([*query, *fields]))
    return fields if is_whole else None


def read_content_type(request: Request) -> str:
    """Return the content type in lower case without parameters, empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _explain_types(accepted: Accepted, kind: str) -> str:
    if accepted.most == 0:
        return "send the options as multipart/form-data, in the query, or as application/json"
    if kind == FORM_TYPE:
        example = "video/mp4" if accepted.media == "video" else "image/jpeg"
        return f"curl: add -H 'Content-Type: {example}' to --data-binary, or use -F file=@NAME"
    ways = f"send multipart/form-data with a `file`, or the raw bytes as {accepted.media}/*"
    if accepted.takes_json:
        ways += f', or JSON with "{accepted.media}_b64"'
    if kind.startswith(("image/", "video/")):
        ways = f"POST /v1/{kind.partition('/')[0]} takes this one; here {ways}"
    return ways


def merge_options(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Join options of the query, the form and JSON; the same one twice must agree."""
    merged: dict[str, Any] = {}
    for name, value in given:
        if _to_text(merged.setdefault(name, value)) != _to_text(value):
            raise InvalidOption(f"`{name[:64]}` is given twice with different values")
    return merged


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _sort_form(form: FormData, query: list[tuple[str, str]], accepted: Accepted) -> Upload:
    """Tell files, extra files and options apart."""
    files: list[UploadedFile] = []
    extra: dict[str, BinaryIO] = {}
    texts: list[tuple[str, Any]] = list(query)
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            texts.append((name, value))
            continue
        if value.size is not None and value.size > accepted.limit_bytes:
            raise refuse_size("file", accepted.limit_bytes, value.size)
        _check_text(name, value)
        if name in accepted.names and accepted.most:
            files.append(UploadedFile(value.file, value.filename, name))
        elif name not in accepted.extra:
            known = accepted.names[:1] if accepted.most else accepted.extra
            raise InvalidOption(f"there is no file part `{name[:64]}`", hint=f"use `{known[0]}`")
        elif name in extra:
            raise InvalidOption(f"`{name}` came twice")
        else:
            extra[name] = value.file
    check_count(len(files), accepted)
    return Upload(files, merge_options(texts), extra)


def _check_text(name: str, part: UploadFile) -> None:
    """Refuse the name of a file where the file should be."""
    if text := read_text(part):
        raise BadRequest(
            f"the part `{name[:64]}` is the text {text[:64]!r}, not a file",
            hint=f"curl: -F {name[:64]}=@NAME, with the @",
        )


def check_count(count: int, accepted: Accepted) -> None:
    """Raise BadRequest for too many files or none."""
    least = 0 if accepted.takes_url else accepted.least
    if accepted.most and not least <= count <= accepted.most:
        needed = "one is needed" if accepted.most == 1 else f"1 to {accepted.most} may come"
        raise BadRequest(f"{count} files came, {needed}, as the part `{accepted.names[0]}`")


@asynccontextmanager
async def spool_body(request: Request, what: str, limit_bytes: int) -> AsyncIterator[BinaryIO]:
    """Yield a body as a file at its start, on disk when it is large; raises PayloadTooLarge."""
    size = 0
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        spool = cast(BinaryIO, file)
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise refuse_size(what, limit_bytes, size)
            if size > SPOOL_BYTES:
                await asyncio.to_thread(spool.write, chunk)
            else:
                spool.write(chunk)
        spool.seek(0)
        yield spool
