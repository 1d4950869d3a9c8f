"""File responses with ETag, conditional requests and ranges (RFC 9110)."""

import re
from collections.abc import AsyncIterator
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from service.errors import RangeNotSatisfiable
from service.threads import Workers

CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def send_file(
    request: Request,
    disk: Workers,
    file: BinaryIO,
    name: str,
    content_type: str,
    size_bytes: int,
    sha256: str,
) -> Response:
    """Answer GET or HEAD with an open file, which is closed afterwards.

    One range is honoured; several, or what is no range of bytes, are ignored as RFC 9110 allows.
    Raises RangeNotSatisfiable.
    """
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    try:
        if is_known(request, etag):
            file.close()
            return Response(status_code=304, headers=headers)
        span = read_range(request, etag, size_bytes)
    except RangeNotSatisfiable:
        file.close()
        raise
    status, first, last = 200, 0, size_bytes - 1
    if span is not None:
        status, (first, last) = 206, span
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    headers["Content-Length"] = str(last - first + 1)
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers, media_type=content_type)
    body = stream_file(disk, file, first, last - first + 1)
    return StreamingResponse(body, status, headers, content_type)


def is_known(request: Request, etag: str) -> bool:
    """Say whether the client has this version already (`If-None-Match`)."""
    tags = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or etag in (tag.removeprefix("W/") for tag in tags)


def read_range(request: Request, etag: str, size_bytes: int) -> tuple[int, int] | None:
    """Return the first and last byte asked for, None for the whole file.

    Raises RangeNotSatisfiable.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or request.headers.get("if-range", etag) != etag:
        return None
    start, end = found.groups()
    if not start and not end:
        return None
    first = int(start) if start else max(0, size_bytes - int(end))
    last = min(int(end), size_bytes - 1) if start and end else size_bytes - 1
    if start and end and int(end) < int(start):
        return None
    if first >= size_bytes or (not start and int(end) == 0):
        raise RangeNotSatisfiable(
            f"the file has {size_bytes} bytes",
            limit=size_bytes,
            actual=first,
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )
    return first, last


async def stream_file(
    disk: Workers, file: BinaryIO, first: int = 0, count: int | None = None
) -> AsyncIterator[bytes]:
    """Yield `count` bytes of a file from `first` on, all by default, and close it.

    It is closed, too, when the client leaves.
    """
    left = count
    with file:
        await disk.run(file.seek, first)
        while left is None or left > 0:
            size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
            if not (chunk := await disk.run(file.read, size)):
                return
            yield chunk
            left = None if left is None else left - len(chunk)
