"""ASGI layer that bounds request bodies: bytes, pauses and total time."""

import asyncio
import time
from contextlib import ExitStack
from types import SimpleNamespace

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import ANONYMOUS
from service.api.dependencies import get_services
from service.api.problems import REMOVEBG_PREFIX, error_response
from service.api.request_layer import read_header
from service.errors import (
    MattingError,
    RequestTimeout,
    UnsupportedMedia,
    refuse_size,
)
from service.gate import ByteBudget
from service.metrics import Metrics
from service.scratch import SPOOL_BYTES, check_free_space
from service.settings import Settings

# What multipart framing and form fields may add to the file itself.
FRAMING_BYTES = 64 * 1024
# What the head of one more part may add: some clients write long names.
PART_BYTES = 512
CLIPS = ("/v1/video", "/v1/uploads")  # paths of clips
GATED = {"/v1/image": ("POST",), "/v1.0/removebg": ("POST",), "/api/remove": ("GET", "POST")}
RESULT = "/v1/image/"  # and the id of a kept result


class BodyLayer:
    """Bounds the bytes, the pauses and the whole time of every request body."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.uploads = ByteBudget(settings.uploads_max_mb * 2**20, metrics)
        self.held = ByteBudget(settings.uploads_memory_max_mb * 2**20, metrics)
        metrics.upload_bytes.set_function(lambda: self.uploads.bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        settings = self.settings
        video = scope["path"].startswith(CLIPS)
        limit = find_body_limit(scope, settings)
        timeout_s = settings.video_body_timeout_s if video else settings.image_body_timeout_s
        if refusal := self._refuse_by_headers(scope, limit):
            await error_response(refusal, scope)(scope, receive, send)
            return
        try:
            check_gate(scope)
            tickets = await self._admit(scope, limit)
        except MattingError as error:
            await error_response(error, scope)(scope, receive, send)
            return

        async def send_and_free(message: Message) -> None:
            if message["type"] == "http.response.start":  # the body has been read, or never will be
                tickets.close()
            await send(message)

        body = _BoundedBody(receive, limit, settings, timeout_s, self.metrics)
        with tickets:
            await self.app(scope, body.receive, send_and_free)

    async def _admit(self, scope: Scope, limit: int) -> ExitStack:
        """Count the bytes of a body before one of them is read; raises Overloaded.

        Without a Content-Length they are as many as the route takes. A clip needs room on the disk,
        too: raises InsufficientStorage.
        """
        declared = read_header(scope, b"content-length")
        if declared is None and read_header(scope, b"transfer-encoding") is None:
            return ExitStack()
        count = int(declared) if declared is not None and declared.isdigit() else limit
        if count > SPOOL_BYTES and scope["path"].startswith(CLIPS):
            await asyncio.to_thread(
                check_free_space,
                self.settings.data_dir,
                count,
                min_bytes=self.settings.disk_min_free_bytes,
                min_percent=self.settings.disk_min_free_percent,
            )
        owner = scope.get("owner") or ANONYMOUS
        with ExitStack() as taken:
            taken.callback(self.uploads.take(count, owner).close)
            if scope["path"].startswith(REMOVEBG_PREFIX):  # whose forms have files in text fields
                taken.callback(self.held.take(count, owner).close)
            return taken.pop_all()

    def _refuse_by_headers(self, scope: Scope, limit: int) -> MattingError | None:
        encodings = [value for name, value in scope["headers"] if name == b"content-encoding"]
        if any(value.strip().lower() != b"identity" for value in encodings):
            return UnsupportedMedia(
                "bodies with a Content-Encoding are not accepted", hint="send the file as it is"
            )
        length = read_header(scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > limit:
            self.metrics.requests_rejected.labels("too_large").inc()
            return refuse_size("body", limit, int(length))
        return None


class _BoundedBody:
    """A body that must come whole, small enough, without long pauses, and not too slowly.

    Only the time counts in which the app waits for the client: in between, the client may not send.
    """

    def __init__(
        self, receive: Receive, limit: int, settings: Settings, total_s: float, metrics: Metrics
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._idle_s = settings.body_idle_timeout_s
        self._least_bytes = settings.body_min_bytes_per_s * self._idle_s
        self._end_s = time.monotonic() + total_s
        self._metrics = metrics
        self._bytes = 0
        self._window_bytes = 0  # since so many seconds of waiting:
        self._window_s = 0.0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what comes now is the disconnect, and it may take any time
            return await self._receive()
        start_s = time.monotonic()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(0.0, min(self._idle_s, self._end_s - start_s))
            )
        except TimeoutError:
            raise self._refuse_silence() from None
        self._window_s += time.monotonic() - start_s
        if self._window_s >= self._idle_s:
            if self._bytes - self._window_bytes < self._least_bytes:
                raise self._refuse_silence()
            self._window_s, self._window_bytes = 0.0, self._bytes
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._bytes > self._limit:
                self._metrics.requests_rejected.labels("too_large").inc()
                raise refuse_size("body", self._limit, self._bytes)
        return message

    def _refuse_silence(self) -> RequestTimeout:
        self._metrics.requests_rejected.labels("timeout").inc()
        speed = f" and at {self._least_bytes / self._idle_s:g} bytes a second at least"
        return RequestTimeout(
            f"the body came too slowly: {self._bytes} bytes until now",
            hint=f"send without pauses of over {self._idle_s:g} s{speed}",
            headers={"Connection": "close"},
        )


def check_gate(scope: Scope) -> None:
    """Raise Overloaded for a photo that there is no room for, before a byte of it is read.

    Here and not in its route, because what is refused under load must cost next to nothing.
    """
    path = scope["path"]
    if path.startswith(RESULT) and scope["method"] == "POST":
        route = f"{RESULT}{{result_id}}"
    elif scope["method"] in GATED.get(path, ()):
        route = path
    else:
        return
    try:
        get_services(HTTPConnection(scope)).runtime.gate.check(scope.get("owner") or ANONYMOUS)
    except MattingError:
        scope["route"] = SimpleNamespace(path=route)  # as the log and the metrics name it
        raise


def find_body_limit(scope: Scope, settings: Settings) -> int:
    """Return the most bytes that the body of a request may have."""
    if scope["path"].startswith("/v1/sessions"):
        return settings.chunk_max_bytes + FRAMING_BYTES + PART_BYTES * settings.chunk_max_frames
    kind = (read_header(scope, b"content-type") or b"").lower()
    if scope["path"].startswith(CLIPS):
        clips = 2 if kind.startswith(b"multipart/") else 1  # the other one is behind the person
        return settings.video_max_bytes * clips + FRAMING_BYTES
    if scope["path"].startswith(REMOVEBG_PREFIX):
        # Multipart: the image and a background. Forms: base64 with its `+` and `/` as %XX.
        share = 2.0 if kind.startswith(b"multipart/") else 1.5
        return int(settings.image_max_bytes * share) + FRAMING_BYTES
    if scope["path"] == "/v1/image" and kind.startswith(b"multipart/"):
        return max(settings.batch_max_bytes, settings.image_max_bytes) + FRAMING_BYTES
    if kind.startswith((b"application/json", b"application/x-www-form-urlencoded")):
        return settings.image_max_bytes * 4 // 3 + FRAMING_BYTES  # base64
    return settings.image_max_bytes + FRAMING_BYTES
