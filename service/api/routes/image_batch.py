"""Several images in one request: one ZIP, in input order; a bad one does not fail the others."""

import json
from typing import Any

from fastapi import Response

from service.api.negotiation import choose_format
from service.api.uploads import Upload
from service.errors import InvalidOption, MattingError
from service.options import BACKGROUND, TRIMAP
from service.runtime import Runtime
from service.stills.answer import make_answer
from service.stills.encode import ZIP_TYPE, Encoded, make_zip
from service.stills.matte import StillFiles
from service.stills.options import ImageOptions
from service.stills.result_store import ResultStore

REPORT = "report.json"


async def answer_batch(
    runtime: Runtime, results: ResultStore, upload: Upload, options: ImageOptions, owner: str
) -> Response:
    """Matte the files one after another and answer the ZIP.

    The batch is admitted as one request, since one image of it is in work at a time. Raises
    InvalidOption for what only a single image can have, and what choose_format raises.
    """
    if options.format == "json":
        raise InvalidOption("several files are answered by a ZIP", hint="leave out format=json")
    if TRIMAP in upload.extra:
        raise InvalidOption(f"{TRIMAP} belongs to one image", hint="send the images one by one")
    format = choose_format(options, accept=None)
    file = upload.extra.get(BACKGROUND)
    background = None if file is None else await runtime.files.run(file.read)
    entries: list[dict[str, Any]] = []
    pictures: dict[str, bytes] = {}
    with runtime.gate.try_enter(is_fine=options.refine == "fine") as ticket:
        for number, image in enumerate(upload.files, 1):
            entry: dict[str, Any] = {"number": number, "file": image.name}
            files = StillFiles(await runtime.files.run(image.data.read), background=background)
            try:
                with ticket.share() as share:
                    answer = await make_answer(
                        runtime, results, files, options, format, share, owner
                    )
            except MattingError as error:
                entries.append(entry | {"status": error.status, "problem": error.describe()})
                continue
            named = name_results(number, answer.encoded)
            pictures |= named
            metadata = answer.metadata.to_json()
            entries.append(entry | {"status": 200, "results": [*named], **metadata})
    pictures[REPORT] = json.dumps(entries, indent=1).encode()
    body = await runtime.workers.run(make_zip, pictures)
    return Response(body, media_type=ZIP_TYPE)


def name_results(number: int, encoded: Encoded) -> dict[str, bytes]:
    """Return the pictures under names that sort in input order: 001.png, or 001/color.jpg."""
    pictures = encoded.pictures
    if len(pictures) > 1:
        return {f"{number:03}/{name}": data for name, data in pictures.items()}
    return {f"{number:03}.{name.rpartition('.')[2]}": data for name, data in pictures.items()}
