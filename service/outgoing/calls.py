"""Requests that the service makes itself: input by URL, results to a URL, webhooks."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import certifi
import httpcore

from service import __version__
from service.errors import FetchFailed, MattingError, refuse_size
from service.outgoing.guard import GuardedBackend, Resolver, hide_query, parse_url
from service.scratch import check_free_space
from service.settings import Settings
from service.shares import SharedPlaces
from service.threads import Workers

MAX_REDIRECTS = 5
MAX_FETCHES, OWN_FETCHES = 8, 4  # at once, of all keys and of each; each may take much disk
REDIRECTS = (301, 302, 303, 307, 308)
PIECE_BYTES = 1 << 18
DEFAULT_PORTS = {"http": 80, "https": 443}


class CallFailed(Exception):
    """A call came to nothing; the text says why."""


class OutgoingCalls:
    """Makes calls to addresses that `service.outgoing.guard` lets through."""

    def __init__(self, settings: Settings, disk: Workers) -> None:
        self._timeout_s = settings.outgoing_timeout_s
        self._resolver = Resolver(settings.outgoing_allow, self._timeout_s)
        self._fetch_timeout_s = settings.url_timeout_s
        self._min_bytes_per_s = settings.body_min_bytes_per_s
        self._room = partial(
            check_free_space,
            settings.data_dir,
            min_bytes=settings.disk_min_free_bytes,
            min_percent=settings.disk_min_free_percent,
        )
        self._fetches = SharedPlaces(MAX_FETCHES, OWN_FETCHES)
        self._disk = disk
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=certifi.where()),
            network_backend=GuardedBackend(self._resolver),
            max_connections=None,  # those who call share places of their own
            max_keepalive_connections=0,  # so that each call is checked
        )

    async def check(self, name: str, text: str) -> None:
        """Raise InvalidOption for a URL that may not be called; `name` is the option's."""
        url = parse_url(name, text)
        await self._resolver.resolve(url.hostname or "", url.port or DEFAULT_PORTS[url.scheme])

    async def fetch(self, owner: str, text: str, file: BinaryIO, limit_bytes: int) -> None:
        """Write what a URL answers into `file`, whose place is at the start afterwards.

        What a key fetches more than OWN_FETCHES waits, so that slow servers hold up no other key.
        Raises InvalidOption for an address that may not be called, FetchFailed, PayloadTooLarge,
        InsufficientStorage.
        """
        try:
            async with asyncio.timeout(self._fetch_timeout_s), self._fetches.hold(owner):
                await self._follow(text, file, limit_bytes)
        except TimeoutError:
            raise FetchFailed(
                f"{hide_query(text)} did not answer in whole within {self._fetch_timeout_s:g} s",
                limit=self._fetch_timeout_s,
            ) from None
        except (CallFailed, httpcore.TimeoutException) as error:
            reason = str(error) or "it did not answer in time"
            raise FetchFailed(f"{hide_query(text)} cannot be fetched: {reason}") from None
        await self._disk.run(file.seek, 0)

    async def fetch_bytes(self, owner: str, text: str, limit_bytes: int) -> bytes:
        """Return what a URL answers; raises what `fetch` raises."""
        file = io.BytesIO()
        await self.fetch(owner, text, file, limit_bytes)
        return file.getvalue()

    async def put(
        self, text: str, file: BinaryIO, size_bytes: int, content_type: str, disk: Workers
    ) -> int:
        """Send a file by PUT, as presigned URLs take it; return the status.

        `disk` are the threads that read it.
        Raises CallFailed, and TimeoutError where it is taken too slowly.
        """

        async def pieces() -> AsyncIterator[bytes]:
            await disk.run(file.seek, 0)
            while piece := await disk.run(file.read, PIECE_BYTES):
                yield piece

        headers = {"Content-Length": str(size_bytes), "Content-Type": content_type}
        patience_s = None
        if self._min_bytes_per_s:
            patience_s = self._timeout_s + size_bytes / self._min_bytes_per_s
        async with (
            asyncio.timeout(patience_s),
            self._call("PUT", text, headers, pieces()) as response,
        ):
            return response.status

    async def post(self, text: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a body by POST; return the status. Raises CallFailed."""
        own = {"Content-Length": str(len(body)), **headers}
        async with (
            asyncio.timeout(self._timeout_s),
            self._call("POST", text, own, body) as response,
        ):
            return response.status

    async def aclose(self) -> None:
        await self._pool.aclose()
        self._resolver.close()

    async def _follow(self, text: str, file: BinaryIO, limit_bytes: int) -> None:
        """Fetch a URL, through redirects, each of which is checked like the first."""
        for _ in range(MAX_REDIRECTS + 1):
            async with self._call("GET", text, {"Accept-Encoding": "identity"}) as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in REDIRECTS and b"location" in headers:
                    target = urljoin(text, headers[b"location"].decode("latin-1"))
                    schemes = [urlsplit(one).scheme for one in (text, target)]
                    if schemes == ["https", "http"]:
                        raise CallFailed("it leads from https to http")
                    text = target
                    continue
                if response.status != 200:
                    raise CallFailed(f"it answers {response.status}")
                declared = headers.get(b"content-length", b"")
                expected = int(declared) if declared.isdigit() else limit_bytes
                if expected > limit_bytes:
                    raise refuse_size("file at the URL", limit_bytes, expected)
                await self._disk.run(self._room, expected)
                size = 0
                async for piece in response.aiter_stream():
                    size += len(piece)
                    if size > limit_bytes:
                        raise refuse_size("file at the URL", limit_bytes, size)
                    await self._disk.run(file.write, piece)
                return
        raise CallFailed(f"it leads on more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        text: str,
        headers: Mapping[str, str],
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpcore.Response]:
        """Yield an answer whose body is still to come; raises CallFailed and InvalidOption."""
        host = parse_url("url", text).netloc
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        own = {"Host": host, "User-Agent": f"matting-service/{__version__}", **headers}
        try:
            async with self._pool.stream(
                method,
                text,
                headers=[(name.encode(), value.encode()) for name, value in own.items()],
                content=content,
                extensions={"timeout": timeouts},
            ) as response:
                yield response
        except httpcore.TimeoutException:
            raise CallFailed(f"nothing came for {self._timeout_s:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            reason = "it does not speak HTTP" if isinstance(error, httpcore.ProtocolError) else ""
            raise CallFailed(reason or f"there is no connection ({type(error).__name__})") from None


def describe_failure(error: Exception) -> str:
    """Return why a call came to nothing, for the log of deliveries."""
    return error.detail if isinstance(error, MattingError) else str(error) or "no answer in time"
