"""Reading uploads: multipart or raw bytes, and the options that came with them."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from fastapi import Request
from starlette.datastructures import UploadFile

from service.errors import BadRequest, InvalidOption, UnsupportedMedia
from service.limits import refuse_size
from service.metrics import Metrics

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
# Above this size an upload is spooled to disk.
SPOOL_BYTES = 1 << 20
T = TypeVar("T")


class ClientGone(Exception):
    """The client left before the answer; there is nobody to tell."""


@dataclass(frozen=True)
class Upload:
    """What came: the file, at its start, further files by name, and the options as text."""

    file: BinaryIO
    extra: dict[str, BinaryIO]
    options: dict[str, str]


@asynccontextmanager
async def read_upload(
    request: Request,
    *,
    media: str,
    names: tuple[str, ...],
    limit_bytes: int,
    extra: tuple[str, ...] = (),
) -> AsyncIterator[Upload]:
    """Yield what was uploaded; its files are gone afterwards.

    `media` is the first half of the content type of a raw body (`image`, `video`), `names` the
    multipart names the file may come under, `extra` the names of files that may come beside it.
    Raises BadRequest, InvalidOption, UnsupportedMedia, PayloadTooLarge.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    query = request.query_params.multi_items()
    if kind == "multipart/form-data":
        async with request.form(
            max_files=4, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
        ) as form:
            parts = form.multi_items()
            texts = [(name, value) for name, value in parts if isinstance(value, str)]
            files = [(name, value) for name, value in parts if isinstance(value, UploadFile)]
            for _, file in files:
                if file.size is not None and file.size > limit_bytes:
                    raise refuse_size("file", limit_bytes, file.size)
            main, others = _sort_files(files, names, extra)
            yield Upload(main, others, merge_options([*query, *texts]))
    elif kind.startswith(f"{media}/") or kind == "application/octet-stream":
        options = merge_options(query)
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            await _spool_body(request, cast(BinaryIO, spool), limit_bytes)
            yield Upload(cast(BinaryIO, spool), {}, options)
    else:
        raise UnsupportedMedia(
            f"the content type is {kind[:64] or 'missing'}",
            hint=f"send multipart/form-data with a `file`, or the raw bytes as {media}/*",
        )


def merge_options(given: list[tuple[str, str]]) -> dict[str, str]:
    """Join options of the query and the form; the same one twice must agree."""
    merged: dict[str, str] = {}
    for name, value in given:
        if merged.setdefault(name, value) != value:
            raise InvalidOption(f"`{name[:64]}` is given twice with different values")
    return merged


def _sort_files(
    files: list[tuple[str, UploadFile]], names: tuple[str, ...], extra: tuple[str, ...]
) -> tuple[BinaryIO, dict[str, BinaryIO]]:
    """Return the one file under `names` and those under `extra`."""
    main: list[BinaryIO] = []
    others: dict[str, BinaryIO] = {}
    for name, upload in files:
        if name in names:
            main.append(upload.file)
        elif name not in extra:
            raise InvalidOption(f"there is no file part `{name[:64]}`", hint=f"use `{names[0]}`")
        elif name in others:
            raise InvalidOption(f"`{name}` came twice")
        else:
            others[name] = upload.file
    if len(main) != 1:
        raise BadRequest(f"{len(main)} files came, one is needed, as the part `{names[0]}`")
    return main[0], others


async def _spool_body(request: Request, spool: BinaryIO, limit_bytes: int) -> None:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise refuse_size("file", limit_bytes, size)
        if size > SPOOL_BYTES:
            await asyncio.to_thread(spool.write, chunk)
        else:
            spool.write(chunk)
    spool.seek(0)


async def run_until_disconnect(
    request: Request, metrics: Metrics, work: Coroutine[Any, Any, T]
) -> T:
    """Return the result of `work`; cancel it and raise ClientGone when the client leaves.

    Starlette does not cancel a handler whose client has gone. The body must have been read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        metrics.requests_rejected.labels("disconnected").inc()
        raise ClientGone
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
