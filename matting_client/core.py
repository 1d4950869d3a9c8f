"""The requests of both clients, written once: keys, tries, errors, photos."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import httpx

from matting_client.errors import ProblemError, Unreachable, make_error
from matting_client.inputs import CountedFile, Part, Photo, split_options, take_photo
from matting_client.results import Matte, read_matte
from matting_client.retry import Retry, read_retry_after
from matting_client.transport import Body, Transport
from matting_client.version import __version__

# Refused for now: the same request may be sent again as it is.
PASSING = (429, 503)
IN_PROGRESS = "in-progress"  # 409, with Retry-After: an earlier try has not ended yet
# Nothing of the request was sent.
NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Sending again what took too long, or what cannot be sent, would not help.
HOPELESS = (httpx.ReadTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


@dataclass(frozen=True)
class Call:
    """One request, which can be sent more than once.

    `files` are parts by name, in order; without any, `options` go as a form, or `json` goes.
    `is_repeatable`: that it was sent once already does no harm, so that a lost connection is no
    reason to give up.
    `progress(bytes_done, bytes_total)` is told how much of the first file was read.
    """

    method: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, Part], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    is_repeatable: bool = True
    read_timeout_s: float | None = None
    progress: Callable[[int, int], None] | None = None


class Core:
    """Sends calls to one service; over a BlockingTransport or an AsyncTransport."""

    def __init__(
        self, transport: Transport, url: str, key: str | None, timeout_s: float, retry: Retry
    ) -> None:
        self.transport = transport
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.retry = retry
        self.headers = {"User-Agent": f"matting-client/{__version__}"}
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"
        self._timeout_s = timeout_s

    async def send(self, call: Call) -> httpx.Response:
        """Return the answer, which is no error; raises ProblemError and Unreachable."""

        async def attempt(request: httpx.Request) -> httpx.Response:
            return check(await self.transport.send(request))

        return await self.retried(call, attempt)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Body]:
        """Yield an answer whose body is still to come; raises what `send` raises.

        Inside, httpx.TransportError is raised when the connection is lost.
        """
        failures = 0
        while True:
            with ExitStack() as files:
                request = self.build(call, files)
                try:
                    async with self.transport.stream(request) as body:
                        if body.response.is_error:
                            await body.read()
                        check(body.response)
                        yield body
                        return
                except ProblemError as error:
                    failures += 1
                    await self.pause(error, failures)

    async def retried(self, call: Call, attempt: Callable[[httpx.Request], Any]) -> httpx.Response:
        """Return the answer of a try that was not refused for now."""
        failures = 0
        while True:
            with ExitStack() as files:
                try:
                    return cast(httpx.Response, await attempt(self.build(call, files)))
                except httpx.TransportError as error:
                    failure: Exception = error
                    may_repeat = call.is_repeatable or isinstance(error, NOT_CONNECTED)
                except ProblemError as error:
                    failure, may_repeat = error, True
            failures += 1
            await self.pause(failure, failures if may_repeat else self.retry.tries)

    async def pause(self, error: Exception, failures: int) -> None:
        """Wait before the next try; raises the error, in this package's terms, if none is due."""
        asked_s = None
        if isinstance(error, ProblemError):
            is_passing = error.status in PASSING or error.code == IN_PROGRESS
            asked_s = error.retry_after_s
        else:
            is_passing = not isinstance(error, HOPELESS)
        pause_s = self.retry.choose_pause(failures, asked_s) if is_passing else None
        if pause_s is not None:
            await self.transport.sleep(pause_s)
        elif isinstance(error, ProblemError):
            raise error
        else:
            why = str(error) or type(error).__name__
            raise Unreachable(f"no answer from {self.url}: {why}") from error

    def build(self, call: Call, files: ExitStack) -> httpx.Request:
        """Return the request of one try; the files that it sends are closed by `files`."""
        parts: list[tuple[str, tuple[str, Any]]] = []
        for number, (name, part) in enumerate(call.files):
            file: BinaryIO | CountedFile = files.enter_context(part.open())
            if call.progress is not None and number == 0:
                file = CountedFile(cast(BinaryIO, file), call.progress)
            parts.append((name, (part.name, file)))
        timeout = httpx.Timeout(self._timeout_s, connect=10)
        if call.read_timeout_s is not None:
            timeout = httpx.Timeout(self._timeout_s, connect=10, read=call.read_timeout_s)
        return self.transport.build(
            call.method,
            self.url + call.path,
            data=dict(call.options) or None,
            files=parts or None,
            json=call.json,
            headers={**self.headers, **call.headers},
            timeout=timeout,
        )

    async def get_document(self, path: str) -> dict[str, Any]:
        """Return the JSON document at a path."""
        return cast(dict[str, Any], (await self.send(Call("GET", path))).json())

    async def matte(self, photo: Photo | None, path: str, given: Mapping[str, Any]) -> Matte:
        """Return the result of a photo; None renders the kept one that the path names."""
        texts, files = split_options(given)
        photos = {"file": photo} | files if photo is not None else files
        work = self.transport.work
        parts = [(name, await work(take_photo, one)) for name, one in photos.items()]
        call = Call("POST", path, texts, tuple(parts))
        return read_matte(await self.send(call))


def check(response: httpx.Response) -> httpx.Response:
    """Return an answer that is no error; raises the ProblemError of one that is."""
    if not response.is_error:
        return response
    try:
        problem = response.json()
    except ValueError:  # of a proxy, in HTML
        problem = {}
    after_s = read_retry_after(response.headers.get("retry-after"))
    raise make_error(response.status_code, problem if isinstance(problem, dict) else {}, after_s)
