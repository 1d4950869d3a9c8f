"""uvicorn's HTTP protocol with what a hostile, slow or dead peer makes necessary.

Before the head of a request is whole no ASGI layer sees the connection, and after the answer is
handed over none sees whether it is read: silence is bounded here.
"""

import asyncio
import logging
import sys
import uuid
from asyncio import TimerHandle
from dataclasses import dataclass
from typing import Any, ClassVar

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.problems import problem_response
from service.api.protocol.socket import SocketProtocol
from service.errors import (
    BadRequest,
    HeadersTooLarge,
    MattingError,
    MisdirectedRequest,
    RequestTimeout,
)
from service.settings import Settings, is_loopback

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Limits:
    """What a head may be; `hosts` are the names that `Host` may give, None: any."""

    header_bytes: int
    hosts: frozenset[str] | None


class _Connection(h11.Connection):
    """Refuses heads that h11 takes: too large, of two lengths, for another host."""

    def __init__(self, limits: _Limits) -> None:
        super().__init__(h11.SERVER, limits.header_bytes)
        self._limits = limits

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._check(event)
        return event

    def _check(self, request: h11.Request) -> None:
        size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
        if size > self._limits.header_bytes:
            raise h11.RemoteProtocolError("head too large", error_status_hint=431)
        names = [name for name, _ in request.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise h11.RemoteProtocolError("two lengths")  # of which a proxy may believe the other
        if request.http_version not in (b"1.0", b"1.1"):
            raise h11.RemoteProtocolError("another version")
        if self._limits.hosts is not None:
            (given,) = [value for name, value in request.headers if name == b"host"] or [b""]
            if split_host(given.decode("latin-1")) not in self._limits.hosts:
                raise h11.RemoteProtocolError("another host", error_status_hint=421)


class HttpProtocol(H11Protocol):
    """Bounds the time in which a peer sends a head and reads an answer, and the size of heads.

    Answers what is not HTTP, or not for this host, with a problem document.
    """

    settings: ClassVar[Settings]

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        settings = self.settings
        self._limits = _Limits(settings.header_max_bytes, find_hosts(settings))
        self.conn = _Connection(self._limits)
        self._head_timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None
        self._is_upgraded = False  # a socket's own protocol has the connection from then on

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_timers()
        self._is_upgraded = True
        super().handle_websocket_upgrade(event)
        protocol = self.transport.get_protocol()
        if isinstance(protocol, SocketProtocol) and (reason := protocol.refusal) is not None:
            self._refuse(explain_head(BadRequest.status, self._limits, is_socket=True), str(reason))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()
        self._watch_sending()

    def shutdown(self) -> None:
        super().shutdown()
        self._watch_sending()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_sending()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def send_400_response(self, msg: str) -> None:
        """Answer what `handle_events` could not read."""
        reason = sys.exception()
        hint = getattr(reason, "error_status_hint", 400)
        self._refuse(explain_head(hint, self._limits), str(reason))

    def _refuse(self, error: MattingError, reason: str) -> None:
        response = problem_response(error, uuid.uuid4().hex)
        log.info("request refused", extra={"fields": {"status": error.status, "reason": reason}})
        headers = [*response.raw_headers, (b"connection", b"close")]
        if self.cycle is not None:  # a broken chunk in its body: whoever reads it hears no more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=response.status_code, headers=headers),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._watch_sending()

    def _is_head_due(self) -> bool:
        """Say whether the peer has the word: for a head, or the rest of a body nobody reads."""
        if self._is_upgraded:
            return False
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        """Start the clock for a head where none runs; stop it once the head is there."""
        if not self._is_head_due():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            wait_s = self.settings.header_timeout_s
            self._head_timer = self.loop.call_later(wait_s, self._end_silence)

    def _end_silence(self) -> None:
        """Close a connection whose head is not whole; one that began it is told why."""
        self._head_timer = None
        has_begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if has_begun and self.conn.our_state is h11.IDLE:
            wait_s = self.settings.header_timeout_s
            late = RequestTimeout(f"no whole request came within {wait_s:g} s", limit=wait_s)
            self._refuse(late, "head too slow")
        elif not self.transport.is_closing():
            self.transport.close()
            self._watch_sending()

    def _watch_sending(self) -> None:
        """Let go of a peer that reads more slowly than it may send, while an answer waits."""
        waiting = self.transport.get_write_buffer_size()
        if self._send_timer is not None or not waiting:
            return

        def check() -> None:
            self._send_timer = None
            left = self.transport.get_write_buffer_size()
            if left > max(0, waiting - settings.body_min_bytes_per_s * settings.send_timeout_s):
                log.info("peer reads too slowly", extra={"fields": {"unsent_bytes": left}})
                self.transport.abort()
            else:
                self._watch_sending()

        settings = self.settings
        self._send_timer = self.loop.call_later(settings.send_timeout_s, check)

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._send_timer = None


def make_http_protocol(settings: Settings) -> type[HttpProtocol]:
    """Return the protocol with the limits of these settings."""
    return type("HttpProtocol", (HttpProtocol,), {"settings": settings})


def find_hosts(settings: Settings) -> frozenset[str] | None:
    """Return the names by which the service may be called, None: by any.

    A page that a browser has loaded from elsewhere can have its own name lead to this machine (DNS
    rebinding); a service that listens on loopback alone has no other protection from it.
    """
    if settings.allowed_hosts:
        return frozenset(name.lower() for name in settings.allowed_hosts)
    if not is_loopback(settings.host):
        return None
    return frozenset(("localhost", "127.0.0.1", "::1", settings.host.lower()))


def split_host(value: str) -> str:
    """Return the name of a `Host` header, in lower case, without port and brackets."""
    name = value.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def explain_head(status: int, limits: _Limits, *, is_socket: bool = False) -> MattingError:
    """Return the error of a head that is refused with `status`; `is_socket`: of an upgrade."""
    if is_socket:
        return BadRequest(
            "the request for a socket cannot be read",
            hint="send GET without a body, 128 headers at most, 8 KiB each at most",
        )
    if status == HeadersTooLarge.status:
        return HeadersTooLarge(
            f"the head of the request has over {limits.header_bytes} bytes",
            hint="send options in the body, and fewer cookies",
            limit=limits.header_bytes,
        )
    if status == MisdirectedRequest.status:
        return MisdirectedRequest(
            "the Host of the request is not a name of this service",
            hint="call it by localhost or 127.0.0.1, or name the host in MATTING_ALLOWED_HOSTS",
        )
    return BadRequest(
        "the request is not valid HTTP/1.1", hint="check its start line, headers and chunk sizes"
    )
