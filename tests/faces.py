"""Both faces of the Python client as one, so that a test has each of them."""

import asyncio
import inspect
from typing import Any

from matting_client import AsyncClient, Client


class AsyncFace:
    """An AsyncClient, or what it returned, whose methods are called as those of a Client."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not inspect.ismethod(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            async def wait() -> Any:
                answer = value(*arguments, **options)
                if inspect.isasyncgen(answer):
                    return [item async for item in answer]
                return await answer if inspect.isawaitable(answer) else answer

            answer = self._runner.run(wait())
            is_face = type(answer).__name__.startswith("Async")
            return AsyncFace(answer, self._runner) if is_face else answer

        return call


def open_face(kind: str, runner: asyncio.Runner, *arguments: Any, **options: Any) -> Any:
    """Return a client of the kind `sync` or `async`."""
    if kind == "sync":
        return Client(*arguments, **options)
    return AsyncFace(AsyncClient(*arguments, **options), runner)
