"""The only place that turns an error into HTTP: problem documents (RFC 9457), or remove.bg's."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from service.errors import (
    BadRequest,
    InsufficientStorage,
    InvalidOption,
    MattingError,
    UnknownForeground,
    translate_disk_errors,
)
from service.telemetry.record import annotate

# Below this path errors are remove.bg's, because its clients read them.
REMOVEBG_PREFIX = "/v1.0/"


# What the framework raises by itself, in the words of the error tree.
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
    "forbidden": (403, "auth_failed", "API Key invalid"),
    "quota-exceeded": (429, "rate_limit_exceeded", "Rate limit exceeded"),
    "fetch-failed": (400, "invalid_image_url", None),
    "misdirected-request": (400, "bad_request", None),
    "headers-too-large": (400, "bad_request", None),
    "overloaded": (429, "rate_limit_exceeded", "Rate limit exceeded"),
}


def error_response(error: MattingError, scope: Scope) -> JSONResponse:
    """Return the answer of an error: a problem document, or what clients of remove.bg read."""
    annotate(error=error.slug)
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
    texts = (error.detail if title else None, error.hint)
    detail = "; ".join(text for text in texts if text)
    code = error.removebg_code or code
    return removebg_item(title or error.detail, code, detail, status, error.headers)


def removebg_item(
    title: str, code: str, detail: str, status: int, headers: Mapping[str, str] | None
) -> JSONResponse:
    """Return an answer of one error in remove.bg's shape; an empty detail is left out."""
    item = {"title": title, "code": code} | ({"detail": detail} if detail else {})
    return JSONResponse({"errors": [item]}, status, headers)


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
        annotate(error=slug)
        headers = dict(error.headers or {})
        detail = str(error.detail)
        if status == 400:  # a broken multipart body
            return error_response(BadRequest(detail, headers=headers), request.scope)
        if status == 404:
            detail = "no route has this path; /docs lists them"
        elif status == 405:
            detail = f"{request.method[:16]} is not allowed here, only {headers.get('Allow', '')}"
        if request.url.path.startswith(REMOVEBG_PREFIX):
            return removebg_item(title, slug.replace("-", "_"), detail, status, headers)
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
