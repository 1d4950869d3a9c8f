"""Clips that arrive piece by piece: a folder for each, until it has become a job."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.errors import (
    Conflict,
    Gone,
    InsufficientStorage,
    Locked,
    NotFound,
    Overloaded,
    translate_disk_errors,
)
from service.jobs.files import JobFiles, sync_folder
from service.jobs.store import make_id
from service.scratch import check_free_space
from service.settings import Settings

FOLDER = "uploads"
DATA, RECORD = "data", "record.json"
CHECKSUMS = ("sha1", "sha256", "md5")


@dataclass(frozen=True)
class PartialUpload:
    """What is known of an upload; `offset` bytes of `length` are there.

    `options` are those of the job; `job_id` is the job that it has become.
    """

    id: str
    owner: str
    length: int
    options: dict[str, Any]
    expires_s: float
    job_id: str | None = None
    offset: int = 0

    @property
    def is_whole(self) -> bool:
        return self.offset == self.length


class UploadStore:
    """A folder for each upload, beside those of the jobs; methods block.

    Uploads that have expired go when another one begins.
    """

    def __init__(
        self, settings: Settings, jobs: JobFiles, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._folder = jobs.folder.with_name(FOLDER)
        self._clock = clock

    def create(self, owner: str, length: int, options: dict[str, Any]) -> PartialUpload:
        """Begin an upload of `length` bytes; raises Overloaded and InsufficientStorage."""
        self._check_room(length)
        upload = PartialUpload(
            id=self._settings.name_id(make_id()),
            owner=owner,
            length=length,
            options=options,
            expires_s=self._clock() + self._settings.job_ttl_s,
        )
        folder = self._folder / upload.id
        with translate_disk_errors():
            folder.mkdir(0o700, parents=True)
            (folder / DATA).touch(0o600)
            self.save(upload)
            sync_folder(self._folder)
        return upload

    def save(self, upload: PartialUpload) -> None:
        """Write what is known of an upload, whole or not at all."""
        path = self._folder / upload.id / RECORD
        part = path.with_suffix(".part")
        record = asdict(upload)
        del record["offset"]  # the file itself says it
        with translate_disk_errors():
            with part.open("w") as file:
                json.dump(record, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            sync_folder(path.parent)

    def find(self, owner: str, upload_id: str) -> PartialUpload:
        """Return an upload as it is now; raises NotFound, and Gone for one that has expired."""
        upload = self._read(upload_id)
        if upload is None or upload.owner != owner:
            raise NotFound("there is no such upload", hint="begin a new one: POST /v1/uploads")
        if upload.expires_s < self._clock():
            self.remove(upload.id)
            raise Gone("the upload has expired", hint="begin a new one: POST /v1/uploads")
        return upload

    def open(self, owner: str, upload_id: str) -> tuple[PartialUpload, "OpenUpload"]:
        """Take an upload for one request alone, which closes it.

        Raises NotFound and Gone, and Locked while another request has it.
        """
        upload = self.find(owner, upload_id)
        opened = OpenUpload(self._folder / upload.id / DATA)
        try:
            return self.find(owner, upload_id), opened  # as it is now that nobody else has it
        except BaseException:
            opened.close()
            raise

    def drop_data(self, upload: PartialUpload) -> None:
        """Forget the bytes of an upload that has become a job."""
        os.truncate(self._folder / upload.id / DATA, 0)

    def remove(self, upload_id: str) -> None:
        shutil.rmtree(self._folder / upload_id, ignore_errors=True)

    def _read(self, upload_id: str) -> PartialUpload | None:
        folder = self._folder / upload_id
        if folder.parent != self._folder or not upload_id or upload_id.startswith("."):
            return None  # no name of ours
        try:
            upload = PartialUpload(**json.loads((folder / RECORD).read_text()))
            offset = (folder / DATA).stat().st_size
        except OSError:
            return None
        offset = upload.length if upload.job_id else min(offset, upload.length)
        return PartialUpload(**asdict(upload) | {"offset": offset})

    def _check_room(self, length: int) -> None:
        settings = self._settings
        check_free_space(
            self._jobs.folder.parent,
            length,
            min_bytes=settings.disk_min_free_bytes,
            min_percent=settings.disk_min_free_percent,
        )
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        uploads = [upload for name in names if (upload := self._read(name))]
        for upload in [one for one in uploads if one.expires_s < self._clock()]:
            uploads.remove(upload)
            self.remove(upload.id)
        waiting = [upload for upload in uploads if upload.job_id is None]
        if len(waiting) >= settings.max_queued_jobs:
            raise Overloaded(
                f"{len(waiting)} uploads have begun, the limit is {settings.max_queued_jobs}",
                hint="finish them, or DELETE those that are not wanted any more",
                limit=settings.max_queued_jobs,
                actual=len(waiting),
                retry_after_s=30,
            )
        used = self._jobs.measure_bytes() + length + sum(upload.length for upload in waiting)
        if used > settings.jobs_max_bytes:
            raise InsufficientStorage(
                f"jobs and uploads would have {used} bytes, the limit is {settings.jobs_max_bytes}",
                hint="delete jobs and uploads that are no longer needed",
                limit=settings.jobs_max_bytes,
                actual=used,
                retry_after_s=60,
            )


class OpenUpload:
    """The bytes of one upload, locked until `close`; methods block."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("r+b")
        self._algorithm: str | None = None
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise Locked(
                "another request is writing to this upload",
                hint="ask for its offset with HEAD once that has ended",
                retry_after_s=1,
            ) from None
        self.start = self.offset = self.file.seek(0, os.SEEK_END)

    def expect(self, offset: int, algorithm: str | None) -> None:
        """Begin at an offset, with a checksum to come; raises Conflict for another offset."""
        if offset != self.offset:
            raise Conflict(
                f"the upload has {self.offset} bytes, Upload-Offset says {offset}",
                hint="ask for its offset with HEAD and go on from there",
            )
        self._digest = hashlib.new(algorithm or "sha1", usedforsecurity=False)
        self._algorithm = algorithm

    def write(self, piece: bytes) -> None:
        with translate_disk_errors():
            self.file.write(piece)
            self.file.flush()  # whoever asks is told of it
        self.offset += len(piece)
        if self._algorithm is not None:
            self._digest.update(piece)

    def verify(self, checksum: bytes) -> bool:
        """Say whether the bytes of this request have this checksum; then they stay."""
        is_right = self._digest.digest() == checksum
        if is_right:
            self._algorithm = None
        return is_right

    def close(self) -> None:
        """Bring the bytes to the disk, without those whose checksum was not confirmed."""
        try:
            if self._algorithm is not None:
                self.file.seek(self.start)
                self.file.truncate()
            self.file.flush()
            os.fsync(self.file.fileno())
        finally:
            self.file.close()
