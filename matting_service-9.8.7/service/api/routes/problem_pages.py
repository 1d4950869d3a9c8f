"""`/problems/{slug}`: what the `type` of a problem document leads to, a page for people."""

from collections.abc import Iterator
from html import escape

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from service.api.routes.page import HEADERS
from service.api.routes.problem_texts import TEXTS
from service.errors import MattingError, NotFound

router = APIRouter(include_in_schema=False)
PATH = "/problems"
# What the framework refuses by itself has no class in the tree of errors.
METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "This method is not allowed here")


def list_problems() -> dict[str, tuple[int, str]]:
    """Return status and title by slug, of every error of the service."""
    slug, status, title = METHOD_NOT_ALLOWED
    found = {slug: (status, title)}
    for error in walk_errors(MattingError):
        found.setdefault(error.slug, (error.status, error.title))
    return dict(sorted(found.items(), key=lambda item: (item[1][0], item[0])))


def walk_errors(error: type[MattingError]) -> Iterator[type[MattingError]]:
    """Yield a class of errors and all below it."""
    yield error
    for below in error.__subclasses__():
        yield from walk_errors(below)


@router.get(PATH)
async def list_problem_pages() -> HTMLResponse:
    """Answer the table of all problem types."""
    rows = "".join(
        f'<tr><td>{status}</td><td><a href="{PATH}/{slug}"><code>{slug}</code></a></td>'
        f"<td>{escape(title)}</td></tr>"
        for slug, (status, title) in list_problems().items()
    )
    head = "<tr><th>Status</th><th>Code</th><th>Meaning</th></tr>"
    body = (
        "<h1>Problems</h1><p>Every error of this service is a problem document (RFC 9457), JSON "
        "whose <code>type</code> is the address of one of these pages.</p>"
        f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    )
    return render("Problems", body)


@router.get(PATH + "/{slug}")
async def show_problem(slug: str) -> HTMLResponse:
    """Answer the page of one problem type: what it means, what to do, what it looks like."""
    known = list_problems()
    if slug not in known:
        raise NotFound("there is no such type of problem", hint=f"{PATH} lists them")
    status, title = known[slug]
    text = TEXTS[slug]
    steps = "".join(f"<li>{mark_code(step)}</li>" for step in text.steps)
    body = (
        f'<p class="eyebrow">Status {status} · <code>{slug}</code></p><h1>{escape(title)}</h1>'
        f"<p>{mark_code(text.meaning)}</p><h2>What to do</h2><ul>{steps}</ul>"
        "<h2>In the answer</h2><p>The document's <code>detail</code> says what was wrong this "
        "time, <code>hint</code> what to do, <code>limit</code> and <code>actual</code> by how "
        "much; <code>instance</code> is the request's id in the log of the service.</p>"
        f'<p><a href="{PATH}">All problems</a></p>'
    )
    return render(title, body)


def mark_code(text: str) -> str:
    """Return HTML for a text in which backticks enclose code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))


def render(title: str, body: str) -> HTMLResponse:
    """Return a whole page, in the look of the start page."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Matting service</title>"
        '<link rel="icon" href="/page/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/page/base.css"></head><body>'
        '<header class="bar"><a class="brand" href="/"><img src="/page/icon.svg" alt="" '
        'width="28" height="28">Matting</a><nav><a href="/docs">API</a></nav></header>'
        f'<main class="prose">{body}</main></body></html>',
        headers=HEADERS,
    )
