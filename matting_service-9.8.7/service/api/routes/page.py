"""The start page: static files, under headers that let a browser load nothing from elsewhere."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

import service

router = APIRouter(include_in_schema=False)
FILES = StaticFiles(directory=Path(service.__file__).parent / "web" / "page")
# No inline script or style, nothing from another origin; `blob:` is what the page makes itself.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again by ETag, so that an update is seen at once
}


@router.api_route("/", methods=["GET", "HEAD"])
async def show_page(request: Request) -> Response:
    """Answer the start page."""
    return await send_file(request, "index.html")


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def send_page_file(request: Request, name: str) -> Response:
    """Answer a file that the page loads."""
    return await send_file(request, name)


async def send_file(request: Request, name: str) -> Response:
    """Return a file of the page, 304 when the browser has it; raises HTTPException with 404."""
    response = await FILES.get_response(name, request.scope)
    response.headers.update(HEADERS)
    return response
