"""Cancel the work on a request when its client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.errors import DeadlineExceeded

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client left before the answer; there is nobody to tell."""


async def run_until_disconnect(
    request: Request, work: Coroutine[Any, Any, T], *, timeout_s: float
) -> T:
    """Return the result of `work`; cancel it when the client leaves or `timeout_s` is over.

    Raises ClientDisconnected or DeadlineExceeded then. Starlette does not cancel a handler whose
    client has gone. The body must have been read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if not gone.done():
            raise DeadlineExceeded(
                f"the work took longer than {timeout_s:g} s",
                hint="send the request again later, or a smaller file",
                limit=timeout_s,
                retry_after_s=1,
            )
        raise ClientDisconnected
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
