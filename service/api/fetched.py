"""Requests that let the service call others: input by `url`, and where results are sent."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import BinaryIO, cast

from fastapi import Request

from service.api.dependencies import get_services
from service.api.uploads import URL, Accepted, Upload, UploadedFile, check_count, read_upload
from service.errors import BadRequest, InvalidOption
from service.jobs.options import JobOptions
from service.outgoing.calls import OutgoingCalls
from service.scratch import SPOOL_BYTES
from service.settings import Settings


@asynccontextmanager
async def read_file(request: Request, accepted: Accepted) -> AsyncIterator[Upload]:
    """Yield what was uploaded, its file fetched where the option `url` names it.

    Raises what `read_upload` and `fetch_named` raise.
    """
    services = get_services(request)
    settings, outgoing = services.runtime.settings, services.outgoing
    async with (
        read_upload(request, accepted) as upload,
        fetch_named(settings, outgoing, request.scope["owner"], upload, accepted) as whole,
    ):
        yield whole


@asynccontextmanager
async def fetch_named(
    settings: Settings, outgoing: OutgoingCalls, owner: str, upload: Upload, accepted: Accepted
) -> AsyncIterator[Upload]:
    """Yield an upload whose file is there: it came, or its `url` is fetched.

    Raises BadRequest for none or too many, InvalidOption for a URL that may not be called,
    FetchFailed, PayloadTooLarge.
    """
    if URL not in upload.options:
        check_count(len(upload.files), replace(accepted, takes_url=False))
        yield upload
        return
    options = dict(upload.options)
    url = options.pop(URL)
    if not settings.url_input:
        raise InvalidOption(
            "this service fetches no URLs",
            hint=f"send the file as the part `{accepted.names[0]}`; an operator who wants URLs "
            "sets MATTING_URL_INPUT=1",
        )
    if upload.files:
        raise BadRequest(f"a file and `{URL}` both came", hint="leave out one")
    if not isinstance(url, str):
        raise InvalidOption(f"{URL} is not a string")
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        spool = cast(BinaryIO, file)
        await outgoing.fetch(owner, url, spool, accepted.limit_bytes)
        yield replace(upload, files=[UploadedFile(spool)], options=options)


async def check_deliveries(
    settings: Settings, outgoing: OutgoingCalls, options: JobOptions
) -> None:
    """Refuse what could not be sent when a job has ended; raises InvalidOption."""
    if options.webhook and settings.webhook_secret is None:
        raise InvalidOption(
            "this service sends no webhooks", hint="an operator sets MATTING_WEBHOOK_SECRET"
        )
    if options.put_urls and not settings.put_results:
        raise InvalidOption(
            "this service sends no results", hint="an operator sets MATTING_PUT_RESULTS=1"
        )
    if options.webhook:
        await outgoing.check("webhook", options.webhook)
    for url in options.put_urls:
        await outgoing.check("put_urls", url)
