"""`/v1/uploads`: long clips sent piece by piece, by tus 1.0.0; a finished one becomes a job."""

import base64
import binascii
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from service.api.dependencies import (
    IntakeDependency,
    OutgoingDependency,
    RuntimeDependency,
    UploadsDependency,
)
from service.api.routes.video import check_upload
from service.api.uploads import Upload
from service.clips.plan import make_plan
from service.errors import (
    BadRequest,
    ChecksumMismatch,
    MattingError,
    UnsupportedMedia,
    UnsupportedVersion,
    refuse_size,
)
from service.jobs.files import folder as job_files
from service.jobs.intake import JobIntake
from service.jobs.options import JobOptions
from service.jobs.uploads.opened import CHECKSUMS, OpenUpload
from service.jobs.uploads.store import PartialUpload, UploadStore
from service.options import parse_options
from service.runtime import Runtime
from service.threads import wait_for_thread

UPLOADS = "/v1/uploads"
VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,checksum,termination"
PIECE_TYPE = "application/offset+octet-stream"
# Of a clip itself, as clients send them; every other key is an option of POST /v1/video.
ABOUT_THE_FILE = ("filename", "filetype", "name", "type", "relativePath")


class TusRoute(APIRoute):
    """A route that checks `Tus-Resumable`, and says it in each answer, errors too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_tus(request: Request) -> Response:
            try:
                if request.method != "OPTIONS":
                    check_version(request)
                response = await handle(request)
            except MattingError as error:
                error.headers["Tus-Resumable"] = VERSION
                raise
            response.headers["Tus-Resumable"] = VERSION
            return response

        return handle_tus


router = APIRouter(tags=["jobs"], route_class=TusRoute)


@router.options(UPLOADS, status_code=204, summary="What this server knows of tus")
async def describe_uploads(runtime: RuntimeDependency) -> Response:
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(runtime.settings.video_max_bytes),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }
    return Response(status_code=204, headers=headers)


@router.post(UPLOADS, status_code=201, summary="Begin a resumable upload (tus 1.0.0)")
async def begin_upload(
    request: Request,
    runtime: RuntimeDependency,
    outgoing: OutgoingDependency,
    uploads: UploadsDependency,
) -> Response:
    """Begin an upload of `Upload-Length` bytes. The pairs of `Upload-Metadata` are options of
    `POST /v1/video`, checked now; `filename` and `filetype` are not used. `Location` is its
    address; `PATCH` sends bytes, `HEAD` answers how many are there, `DELETE` forgets it."""
    length = read_number(request, "upload-length")
    limit_bytes = runtime.settings.video_max_bytes
    if length > limit_bytes:
        raise refuse_size("clip", limit_bytes, length)
    if length == 0:
        raise BadRequest("Upload-Length is 0, a clip has bytes")
    given = read_metadata(request.headers.get("upload-metadata", ""))
    options = await check_upload(runtime, outgoing, Upload([], given))
    dumped = options.model_dump(mode="json", exclude_unset=True)
    upload = await runtime.files.run(uploads.create, request.scope["owner"], length, dumped)
    headers = {"Location": f"{UPLOADS}/{upload.id}"} | describe_upload(upload)
    return Response(status_code=201, headers=headers)


@router.head(UPLOADS + "/{upload_id}", summary="How much of an upload is there")
async def show_upload(
    request: Request,
    runtime: RuntimeDependency,
    intake: IntakeDependency,
    uploads: UploadsDependency,
    upload_id: str,
) -> Response:
    """Answer `Upload-Offset`, and `X-Job-ID` once the upload has become a job."""
    upload = await runtime.files.run(uploads.find, request.scope["owner"], upload_id)
    if upload.is_whole and upload.job_id is None:  # its end was interrupted
        upload = await make_job(runtime, intake, uploads, upload)
    headers = describe_upload(upload) | {
        "Upload-Length": str(upload.length),
        "Cache-Control": "no-store",
    }
    return Response(headers=headers)


@router.patch(UPLOADS + "/{upload_id}", status_code=204, summary="Send the next bytes")
async def append_piece(
    request: Request,
    runtime: RuntimeDependency,
    intake: IntakeDependency,
    uploads: UploadsDependency,
    upload_id: str,
) -> Response:
    """Append a body of `application/offset+octet-stream` at `Upload-Offset`. What came of one that
    was cut off stays, unless it has an `Upload-Checksum`. With the last byte the upload becomes a
    job, and the answer has its id in `X-Job-ID`."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != PIECE_TYPE:
        raise UnsupportedMedia(f"the content type is {kind[:64] or 'missing'}", hint=PIECE_TYPE)
    offset = read_number(request, "upload-offset")
    checksum = read_checksum(request)
    owner = request.scope["owner"]
    upload, file = await runtime.files.run(uploads.open, owner, upload_id)
    try:
        if upload.job_id is None:
            file.expect(offset, None if checksum is None else checksum[0])
            await receive(request, runtime, file, upload.length)
            if checksum is not None and not file.verify(checksum[1]):
                raise ChecksumMismatch("the bytes have another checksum", hint="send them again")
            upload = replace(upload, offset=file.offset)
    finally:
        await wait_for_thread(runtime.files.run(file.close))  # now they are on the disk
    if upload.is_whole and upload.job_id is None:
        upload = await make_job(runtime, intake, uploads, upload)
    return Response(status_code=204, headers=describe_upload(upload))


@router.delete(UPLOADS + "/{upload_id}", status_code=204, summary="Forget an upload")
async def forget_upload(
    request: Request, runtime: RuntimeDependency, uploads: UploadsDependency, upload_id: str
) -> Response:
    """Remove an upload; the job that it has become stays."""
    upload = await runtime.files.run(uploads.find, request.scope["owner"], upload_id)
    await runtime.files.run(uploads.remove, upload.id)
    return Response(status_code=204)


async def receive(request: Request, runtime: Runtime, file: OpenUpload, length: int) -> None:
    """Write a body as it comes; raises PayloadTooLarge for more than `length` bytes in all."""
    async for piece in request.stream():
        if file.offset + len(piece) > length:
            raise refuse_size("upload", length, file.offset + len(piece))
        if piece:
            await runtime.files.run(file.write, piece)


async def make_job(
    runtime: Runtime, intake: JobIntake, uploads: UploadStore, upload: PartialUpload
) -> PartialUpload:
    """Make a job of a whole upload, once, however often it is tried."""
    owner, key = upload.owner, f"upload {upload.id}"
    upload, file = await runtime.files.run(uploads.open, owner, upload.id)
    try:
        if upload.job_id is not None:
            return upload
        outputs = make_plan(parse_options(JobOptions, upload.options), None).outputs
        async with intake.admit(owner, key, has_room=True) as admission:
            files = {job_files.INPUT: file.file}
            job = await intake.submit(admission, files, upload.options, outputs)
        upload = replace(upload, job_id=job.id)
        with suppress(FileNotFoundError):  # the upload was forgotten meanwhile; the job stays
            await runtime.files.run(uploads.save, upload)
            await runtime.files.run(uploads.drop_data, upload)
        return upload
    finally:
        await wait_for_thread(runtime.files.run(file.close))


def describe_upload(upload: PartialUpload) -> dict[str, str]:
    """Return the headers that tell how far an upload is."""
    expires = format_datetime(datetime.fromtimestamp(upload.expires_s, UTC), usegmt=True)
    headers = {"Upload-Offset": str(upload.offset), "Upload-Expires": expires}
    return headers if upload.job_id is None else headers | {"X-Job-ID": upload.job_id}


def check_version(request: Request) -> None:
    """Raise UnsupportedVersion for another version of tus, or none."""
    if request.headers.get("tus-resumable") != VERSION:
        raise UnsupportedVersion(
            f"Tus-Resumable must be {VERSION}",
            hint="a tus client sends it; without one use POST /v1/video",
            headers={"Tus-Version": VERSION},
        )


def read_number(request: Request, name: str) -> int:
    """Return the number of a header; raises BadRequest."""
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadRequest(f"{name.title()} must be a number of bytes")
    return int(text)


def read_metadata(text: str) -> dict[str, str]:
    """Return the options in `Upload-Metadata`, `key base64` pairs; raises BadRequest."""
    options: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = pair.partition(" ")
        if name in options:
            raise BadRequest(f"Upload-Metadata has `{name[:64]}` twice")
        try:
            options[name] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadRequest(f"`{name[:64]}` in Upload-Metadata is not text in base64") from None
    return {name: value for name, value in options.items() if name not in ABOUT_THE_FILE}


def read_checksum(request: Request) -> tuple[str, bytes] | None:
    """Return algorithm and digest of `Upload-Checksum`, None without; raises BadRequest."""
    text = request.headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except binascii.Error:
        digest = b""
    if algorithm not in CHECKSUMS or not digest:
        names = ", ".join(CHECKSUMS)
        raise BadRequest(f"Upload-Checksum must be one of {names} and the digest in base64")
    return algorithm, digest
