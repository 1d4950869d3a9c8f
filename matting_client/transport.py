"""How the core reaches the service: with blocking calls, or on an event loop.

The core is written once, as coroutines. The asynchronous face awaits them. The synchronous face
runs them with a transport whose methods block and never wait, so that one step ends each of them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import httpx

T = TypeVar("T")
Socket = Any  # a connection of `websockets`, of its blocking or of its asyncio kind
MAX_MESSAGE_BYTES = 64 * 2**20


class Body(Protocol):
    """An answer whose body is still to come."""

    response: httpx.Response

    async def read(self) -> None:
        """Take in the whole body."""

    def chunks(self) -> AsyncGenerator[bytes]: ...

    def lines(self) -> AsyncGenerator[str]: ...


class Transport(Protocol):
    """What the core asks of the world outside."""

    def build(self, method: str, url: str, **what: Any) -> httpx.Request: ...

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return the whole answer; raises httpx.TransportError."""

    def stream(self, request: httpx.Request) -> AbstractAsyncContextManager[Body]:
        """Yield an answer once its head is there; raises httpx.TransportError."""

    async def sleep(self, seconds: float) -> None: ...

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what a function returns that computes or waits for the disk."""

    async def connect(self, url: str, protocols: list[str], headers: Mapping[str, str]) -> Socket:
        """Open a WebSocket; raises what `websockets` raises."""

    async def send_message(self, socket: Socket, message: bytes) -> None: ...

    async def receive_message(self, socket: Socket) -> bytes | str: ...

    async def close_socket(self, socket: Socket) -> None: ...

    async def aclose(self) -> None: ...


class BlockingBody:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def read(self) -> None:
        self.response.read()

    async def chunks(self) -> AsyncGenerator[bytes]:
        for chunk in self.response.iter_raw():
            yield chunk

    async def lines(self) -> AsyncGenerator[str]:
        for line in self.response.iter_lines():
            yield line


class BlockingTransport:
    """Calls that block."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def build(self, method: str, url: str, **what: Any) -> httpx.Request:
        return self._http.build_request(method, url, **what)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self._http.send(request)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[Body]:
        response = self._http.send(request, stream=True, follow_redirects=may_follow(request))
        try:
            yield BlockingBody(response)
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)

    async def connect(self, url: str, protocols: list[str], headers: Mapping[str, str]) -> Socket:
        from websockets.sync.client import connect

        # From version 17 on only a `with` block, or what it does, opens a connection.
        return connect(url, **socket_options(protocols, headers)).__enter__()

    async def send_message(self, socket: Socket, message: bytes) -> None:
        socket.send(message)

    async def receive_message(self, socket: Socket) -> bytes | str:
        message: bytes | str = socket.recv()
        return message

    async def close_socket(self, socket: Socket) -> None:
        socket.close()

    async def aclose(self) -> None:
        self._http.close()


class AsyncBody:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def read(self) -> None:
        await self.response.aread()

    async def chunks(self) -> AsyncGenerator[bytes]:
        async for chunk in self.response.aiter_raw():
            yield chunk

    async def lines(self) -> AsyncGenerator[str]:
        async for line in self.response.aiter_lines():
            yield line


class AsyncTransport:
    """Calls on the event loop of asyncio."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    def build(self, method: str, url: str, **what: Any) -> httpx.Request:
        return self._http.build_request(method, url, **what)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[Body]:
        response = await self._http.send(request, stream=True, follow_redirects=may_follow(request))
        try:
            yield AsyncBody(response)
        finally:
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(function, *arguments)

    async def connect(self, url: str, protocols: list[str], headers: Mapping[str, str]) -> Socket:
        from websockets.asyncio.client import connect

        return await connect(url, **socket_options(protocols, headers))

    async def send_message(self, socket: Socket, message: bytes) -> None:
        await socket.send(message)

    async def receive_message(self, socket: Socket) -> bytes | str:
        message: bytes | str = await socket.recv()
        return message

    async def close_socket(self, socket: Socket) -> None:
        await socket.close()

    async def aclose(self) -> None:
        await self._http.aclose()


def may_follow(request: httpx.Request) -> bool:
    """Say whether a redirect is followed, as downloads from object storage need.

    To another host httpx sends no `Authorization` on.
    """
    return request.method == "GET"


def socket_options(protocols: list[str], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what `connect` of websockets is given: pictures do not get smaller by deflate."""
    return {
        "subprotocols": protocols,
        "additional_headers": dict(headers),
        "compression": None,
        "max_size": MAX_MESSAGE_BYTES,
    }


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine over a BlockingTransport returns."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise AssertionError("a blocking transport never waits")


def iterate(generator: AsyncGenerator[T]) -> Iterator[T]:
    """Yield what an asynchronous generator over a BlockingTransport yields."""
    try:
        while True:
            try:
                yield run(generator.__anext__())
            except StopAsyncIteration:
                return
    finally:
        run(generator.aclose())
