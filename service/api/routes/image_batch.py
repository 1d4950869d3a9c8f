"""Several images in one request: one ZIP in input order, with errors for each image."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from service.api.downloads import stream_file
from service.api.negotiation import choose_format
from service.api.uploads import Upload
from service.errors import (
    InvalidOption,
    MattingError,
    MediaLimitExceeded,
    translate_disk_errors,
)
from service.options import BACKGROUND, HINT, TRIMAP
from service.runtime import Runtime
from service.stills.answer import make_answer
from service.stills.encode import ZIP_TYPE, Encoded
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
    for part in (TRIMAP, HINT):
        if part in upload.extra:
            raise InvalidOption(f"{part} belongs to one image", hint="send the images one by one")
    format = choose_format(options, accept=None)
    settings = runtime.settings
    largest = settings.image_result_max_mb * 2**20
    file = upload.extra.get(BACKGROUND)
    background = None if file is None else await runtime.files.run(file.read)
    archive = await runtime.files.run(BatchArchive, settings.data_dir, largest)
    try:
        with runtime.gate.try_enter(owner, is_fine=options.refine == "fine") as ticket:
            for number, image in enumerate(upload.files, 1):
                files = StillFiles(await runtime.files.run(image.data.read), background=background)
                entry: dict[str, Any] = {"number": number, "file": image.name}
                try:
                    with ticket.share() as share:
                        answer = await make_answer(
                            runtime, results, files, options, format, share, owner
                        )
                    named = name_results(number, answer.encoded)
                    await runtime.files.run(archive.add, named)
                except MattingError as error:
                    entry |= {"status": error.status, "problem": error.describe()}
                else:
                    entry |= {"status": 200, "results": [*named], **answer.metadata.to_json()}
                archive.entries.append(entry)
        size = await runtime.files.run(archive.finish)
    except BaseException:
        await runtime.files.run(archive.close)
        raise
    return StreamingResponse(
        stream_file(runtime.files, archive.file),
        media_type=ZIP_TYPE,
        headers={"Content-Length": str(size)},
        background=BackgroundTask(archive.close),  # whoever left before the first piece
    )


class BatchArchive:
    """The ZIP of a batch on disk, and its report."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.entries: list[dict[str, Any]] = []
        self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
        self._max_bytes = max_bytes
        # What is in it is compressed already.
        self._archive = zipfile.ZipFile(self.file, "w", zipfile.ZIP_STORED)

    def add(self, pictures: dict[str, bytes]) -> None:
        """Write the results of one image; raises MediaLimitExceeded, InsufficientStorage."""
        size = self.file.tell() + sum(len(data) for data in pictures.values())
        if size > self._max_bytes:
            raise MediaLimitExceeded(
                f"the results of this batch have over {self._max_bytes} bytes with this one",
                hint="send fewer images in a request, or ask for webp or jpeg",
                limit=self._max_bytes,
                actual=size,
            )
        with translate_disk_errors():
            for name, data in pictures.items():
                self._archive.writestr(name, data)

    def finish(self) -> int:
        """Write the report; return the bytes of the whole, which is at its start again."""
        with translate_disk_errors():
            self._archive.writestr(REPORT, json.dumps(self.entries, indent=1))
            self._archive.close()
        size = self.file.tell()
        self.file.seek(0)
        return size

    def close(self) -> None:
        """Forget everything."""
        self._archive.close()
        self.file.close()


def name_results(number: int, encoded: Encoded) -> dict[str, bytes]:
    """Return the pictures under names that sort in input order: 001.png, or 001/color.jpg."""
    pictures = encoded.pictures
    if len(pictures) > 1:
        return {f"{number:03}/{name}": data for name, data in pictures.items()}
    return {f"{number:03}.{name.rpartition('.')[2]}": data for name, data in pictures.items()}
