"""The error tree, and the only place that turns an error into HTTP (RFC 9457)."""

import errno
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

log = logging.getLogger(__name__)
# Below this path errors are remove.bg's, because its clients read them.
REMOVEBG_PREFIX = "/v1.0/"


class MattingError(Exception):
    """An error with a text for the user.

    `detail` says what was wrong, `hint` what to do; `limit` and `actual` are numbers in the unit
    that `detail` names, `expected_sequence` the chunk that is due. `retry_after_s` becomes
    `Retry-After`. `removebg_code` is remove.bg's code where that of the slug is too coarse.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "The service failed"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
        expected_sequence: int | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
        removebg_code: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.limit = limit
        self.actual = actual
        self.expected_sequence = expected_sequence
        self.errors = errors
        self.removebg_code = removebg_code
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))

    def describe(self) -> dict[str, Any]:
        """Return the members of the problem document, but for the request's own."""
        members = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.slug,
            "errors": self.errors,
            "hint": self.hint,
            "limit": self.limit,
            "actual": self.actual,
            "expected_sequence": self.expected_sequence,
        }
        return {name: value for name, value in members.items() if value is not None}


class BadRequest(MattingError):
    status, slug, title = 400, "bad-request", "The request is malformed"


class Unauthorized(MattingError):
    status, slug, title = 401, "unauthorized", "A valid API key is needed"


class NotFound(MattingError):
    status, slug, title = 404, "not-found", "There is nothing here"


class NotAcceptable(MattingError):
    status, slug, title = 406, "not-acceptable", "No acceptable format"


class RequestTimeout(MattingError):
    status, slug, title = 408, "request-timeout", "The body arrived too slowly"


class Conflict(MattingError):
    status, slug, title = 409, "conflict", "The state of this does not allow it"


class InProgress(MattingError):
    status, slug, title = 409, "in-progress", "The same request is still in progress"


class Gone(MattingError):
    status, slug, title = 410, "gone", "This is no longer here"


class ChunkConflict(MattingError):
    status, slug, title = 409, "chunk-conflict", "Another chunk had this number"


class ChunkOutOfOrder(MattingError):
    status, slug, title = 409, "chunk-out-of-order", "This chunk is not the next one"


class PayloadTooLarge(MattingError):
    status, slug, title = 413, "payload-too-large", "The body has too many bytes"


class UnsupportedMedia(MattingError):
    status, slug, title = 415, "unsupported-media", "This kind of file is not supported"


class RangeNotSatisfiable(MattingError):
    status, slug, title = 416, "range-not-satisfiable", "The file has no such range"


class InvalidOption(MattingError):
    status, slug, title = 422, "invalid-option", "An option cannot be used"


class ImpossibleOutput(MattingError):
    status, slug, title = 422, "impossible-output", "This output cannot be made"


class UndecodableMedia(MattingError):
    status, slug, title = 422, "undecodable-media", "The file cannot be decoded"


class DecoderCrashed(UndecodableMedia):
    """The decoder child ended by itself: for a request the file is at fault, a job tries again."""


class IdempotencyKeyReused(MattingError):
    status, slug, title = 422, "idempotency-key-reused", "The key belongs to another request"


class UnknownForeground(MattingError):
    """Nobody is in the picture: an error for remove.bg's clients only."""

    status, slug, title = 422, "unknown-foreground", "Could not identify foreground in image."


class MediaLimitExceeded(MattingError):
    status, slug, title = 422, "media-limit-exceeded", "The media is over a limit"


class MediaTooComplex(MattingError):
    status, slug, title = 422, "media-too-complex", "The media takes too much work to decode"


class Overloaded(MattingError):
    status, slug, title = 429, "overloaded", "The service is busy"


class NotReady(MattingError):
    status, slug, title = 503, "not-ready", "The service is not ready"


class Draining(MattingError):
    status, slug, title = 503, "draining", "The service is shutting down"


class DeadlineExceeded(MattingError):
    status, slug, title = 504, "deadline-exceeded", "The request took too long"


class InsufficientStorage(MattingError):
    status, slug, title = 507, "insufficient-storage", "There is no room on disk"


_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextmanager
def translate_disk_errors() -> Iterator[None]:
    """Raise InsufficientStorage for a disk that is full or fails."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        raise InsufficientStorage("the disk of the service is full", retry_after_s=60) from error


# What the framework raises by itself, in the words of the tree above.
_FRAMEWORK = {
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "This method is not allowed here"),
    406: ("not-acceptable", "No acceptable format"),
    413: ("payload-too-large", "The body has too many bytes"),
}


# Status, code and title where remove.bg has its own; without a title the detail is the title,
# because many clients show nothing else.
_REMOVEBG: dict[str, tuple[int, str, str | None]] = {
    "bad-request": (400, "bad_request", None),
    "unauthorized": (403, "auth_failed", "API Key invalid"),
    "payload-too-large": (400, "file_too_large", "File too large"),
    "unsupported-media": (400, "invalid_file_type", "Invalid file type"),
    "invalid-option": (400, "invalid_parameter", None),
    "impossible-output": (400, "invalid_format", None),
    "undecodable-media": (400, "failed_to_read_image", "There was an error reading the image."),
    "media-too-complex": (400, "failed_to_read_image", "There was an error reading the image."),
    "media-limit-exceeded": (400, "resolution_too_high", "Image resolution too high"),
    "unknown-foreground": (400, "unknown_foreground", UnknownForeground.title),
    "overloaded": (429, "rate_limit_exceeded", "Rate limit exceeded"),
}


def error_response(error: MattingError, scope: Scope) -> JSONResponse:
    """Return the answer of an error: a problem document, or what clients of remove.bg read."""
    if scope["path"].startswith(REMOVEBG_PREFIX):
        return removebg_response(error)
    return problem_response(error, str(scope.get("request_id", "")))


def problem_response(error: MattingError, request_id: str) -> JSONResponse:
    """Return the `application/problem+json` answer (RFC 9457) of an error."""
    body = error.describe() | {"instance": request_id}
    return JSONResponse(body, error.status, error.headers, media_type="application/problem+json")


def removebg_response(error: MattingError) -> JSONResponse:
    """Return the error body of remove.bg, `{"errors": [{"title", "code", "detail"}]}`."""
    own = (error.status, error.slug.replace("-", "_"), error.title)
    status, code, title = _REMOVEBG.get(error.slug, own)
    item = {"title": title or error.detail, "code": error.removebg_code or code}
    texts = (error.detail if title else None, error.hint)
    if detail := "; ".join(text for text in texts if text):
        item["detail"] = detail
    return JSONResponse({"errors": [item]}, status, error.headers)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error raised below the routes."""

    async def on_matting_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MattingError)
        return error_response(error, request.scope)

    async def on_os_error(request: Request, error: Exception) -> JSONResponse:
        try:
            with translate_disk_errors():
                raise error
        except InsufficientStorage as full:  # most of all while an upload was spooled
            return error_response(full, request.scope)

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        status = error.status_code
        slug, title = _FRAMEWORK.get(status, ("bad-request", "The request failed"))
        headers = dict(error.headers or {})
        detail = str(error.detail)
        if status == 400:  # a broken multipart body
            return error_response(BadRequest(detail, headers=headers), request.scope)
        if status == 404:
            detail = "no route has this path; /docs lists them"
        elif status == 405:
            detail = f"{request.method[:16]} is not allowed here, only {headers.get('Allow', '')}"
        problem = MattingError(detail, headers=headers).describe()
        problem |= {"type": f"/problems/{slug}", "title": title, "status": status, "code": slug}
        problem["instance"] = str(request.scope.get("request_id", ""))
        return JSONResponse(problem, status, headers, media_type="application/problem+json")

    async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [
            {"loc": ".".join(str(part) for part in item["loc"]), "msg": item["msg"]}
            for item in error.errors()
        ]
        invalid = InvalidOption(f"{found[0]['loc']}: {found[0]['msg']}", errors=found)
        return error_response(invalid, request.scope)

    app.add_exception_handler(MattingError, on_matting_error)
    app.add_exception_handler(OSError, on_os_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)


def internal_error_response(scope: Scope) -> JSONResponse:
    """Return the answer to an unforeseen exception: our bug, and nothing about it in the body."""
    error = MattingError(
        "an internal error happened; nothing was stored",
        hint="the log of the service has the details under this request id",
    )
    return error_response(error, scope)
