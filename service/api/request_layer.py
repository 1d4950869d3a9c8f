"""Outermost ASGI layer: request ids, access log, and 500 for unforeseen errors."""

import asyncio
import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import error_response, internal_error_response
from service.errors import refuse_draining
from service.inference.health import Health
from service.log import current_request_id
from service.metrics import Metrics
from service.telemetry.record import Record, current_record, make_exemplar
from service.telemetry.tracing import RequestTrace, Tracing, read_trace_id

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
SWITCHING_PROTOCOLS = 101
NORMAL_CLOSURE, INTERNAL_ERROR = 1000, 1011  # of WebSocket (RFC 6455)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def read_header(scope: Scope, name: bytes) -> bytes | None:
    """Return the one value of a header, None when it is absent or sent more than once."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None


def brings_work(scope: Scope) -> bool:
    """Say whether a request asks for more than to look at what is there."""
    return scope["type"] == "websocket" or scope["method"] in ("POST", "PUT", "PATCH")


class RequestLayer:
    """Gives every request its id, counts it, logs it, and answers what nobody foresaw.

    While the service ends, new work is refused, and so is what has not come to an end in time.
    `X-Request-ID` is echoed when it matches `[A-Za-z0-9._-]{1,128}`, else a new one is made.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, health: Health, tracing: Tracing | None = None
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.health = health
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = read_header(scope, b"x-request-id") or b""
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        current_request_id.set(request_id)
        caller = (read_header(scope, b"traceparent") or b"").decode("latin-1")
        trace = None
        if self.tracing is not None:
            trace = self.tracing.begin(scope["path"][:64], caller, is_request=True)
        trace_id = read_trace_id(caller) if trace is None else trace.trace_id
        record = Record(exemplar=make_exemplar(trace_id, request_id), trace=trace)
        current_record.set(record)
        status = bytes_in = bytes_out = 0

        async def receive_counted() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += count_bytes(message)
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status, bytes_out
            bytes_out += count_bytes(message)
            if message["type"].endswith(("http.response.start", "websocket.accept")):
                status = message.get("status", SWITCHING_PROTOCOLS)
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            elif message["type"] == "websocket.close" and status == SWITCHING_PROTOCOLS:
                record.fields["close_code"] = message.get("code", NORMAL_CLOSURE)
                record.fields["close_reason"] = message.get("reason") or ""
            await send(message)

        start_s = time.perf_counter()
        with self.metrics.requests_in_progress.track_inprogress():
            try:
                if self.health.draining and brings_work(scope):
                    await self._refuse_draining(scope, receive, send_with_id)
                else:
                    await self.app(scope, receive_counted, send_with_id)
            except asyncio.CancelledError:
                if not self.health.draining:
                    raise
                # The server's time to end is over: who still waits is told, and tries again.
                if not status:
                    await self._refuse_draining(scope, receive, send_with_id)
            except Exception:
                log.exception("unforeseen error")
                if not status:
                    await internal_error_response(scope)(scope, receive, send_with_id)
                elif status == SWITCHING_PROTOCOLS:
                    await send_with_id({"type": "websocket.close", "code": INTERNAL_ERROR})
        record.fields |= {"bytes_in": bytes_in, "bytes_out": bytes_out}
        if caller:
            record.fields["traceparent"] = caller[:64]
        self._finish(scope, status, time.perf_counter() - start_s, record, trace)

    async def _refuse_draining(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.metrics.requests_rejected.labels("draining").inc()
        await error_response(refuse_draining(), scope)(scope, receive, send)

    def _finish(
        self,
        scope: Scope,
        status: int,
        duration_s: float,
        record: Record,
        trace: RequestTrace | None,
    ) -> None:
        # Route templates and known methods only: free text would let clients create series.
        route = getattr(scope.get("route"), "path", "unmatched")
        given = scope.get("method", "GET")  # sockets begin as one
        method = given if given in METHODS else "other"
        self.metrics.requests.labels(route, method, status).inc()
        if status != SWITCHING_PROTOCOLS:  # a socket lasts as long as its user likes
            self.metrics.request_duration.labels(route).observe(duration_s, record.exemplar)
        fields: dict[str, object] = {
            "method": given,
            "route": route,
            "status": status,
            "duration_ms": round(duration_s * 1000, 1),
        } | record.fields
        if trace is not None:
            trace.end_request(scope["request_id"], fields)
            fields["trace_id"] = trace.trace_id
        log.info("request", extra={"fields": fields})


def count_bytes(message: Message) -> int:
    """Return the bytes of the body or the frame in an ASGI message."""
    if "text" in message and message["text"] is not None:
        return len(message["text"].encode())
    return len(message.get("body") or message.get("bytes") or b"")
