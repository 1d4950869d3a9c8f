"""Racing the work on a request against the client's departure."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.metrics import Metrics

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client left before the answer; there is nobody to tell."""


async def run_until_disconnect(
    request: Request, metrics: Metrics, work: Coroutine[Any, Any, T]
) -> T:
    """Return the result of `work`; cancel it and raise ClientDisconnected when the client leaves.

    Starlette does not cancel a handler whose client has gone. The body must have been read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        metrics.requests_rejected.labels("disconnected").inc()
        raise ClientDisconnected
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
