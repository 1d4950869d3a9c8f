"""Clips that arrive piece by piece: a folder for each, until it has become a job."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from service.access import ANONYMOUS
from service.errors import (
    Gone,
    InsufficientStorage,
    NotFound,
    Overloaded,
    translate_disk_errors,
)
from service.jobs.files.folder import JobFiles, sync_folder
from service.jobs.rows.store import make_id
from service.jobs.uploads.opened import DATA, OpenUpload, measure_upload, write_whole
from service.scratch import check_free_space
from service.settings import Settings

FOLDER = "uploads"
RECORD = "record.json"
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


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
        self._check_room(owner, length)
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
        record = asdict(upload)
        del record["offset"]  # the file itself says it
        with translate_disk_errors():
            write_whole(self._folder / upload.id / RECORD, json.dumps(record))

    def find(self, owner: str, upload_id: str) -> PartialUpload:
        """Return an upload as it is now; raises NotFound, and Gone for one that has expired."""
        upload = self._read(upload_id)
        if upload is None or upload.owner != owner:
            raise refuse_unknown()
        if upload.expires_s < self._clock():
            self.remove(upload.id)
            raise Gone("the upload has expired", hint="begin a new one: POST /v1/uploads")
        return upload

    def open(self, owner: str, upload_id: str) -> tuple[PartialUpload, OpenUpload]:
        """Take an upload for one request alone, which closes it.

        Raises NotFound and Gone, and Locked while another request has it.
        """
        upload = self.find(owner, upload_id)
        try:
            opened = OpenUpload(self._folder / upload.id)
        except FileNotFoundError:  # forgotten in this moment
            raise refuse_unknown() from None
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
        if not ID.fullmatch(upload_id):
            return None
        folder = self._folder / upload_id
        try:
            upload = PartialUpload(**json.loads((folder / RECORD).read_text()))
            offset = measure_upload(folder)
        except (OSError, TypeError, ValueError):  # damaged, or of another version
            return None
        offset = upload.length if upload.job_id else min(offset, upload.length)
        return PartialUpload(**asdict(upload) | {"offset": offset})

    def _remove_orphan(self, name: str) -> None:
        """Remove a folder without a record, of a process that was killed, once it is old."""
        oldest_s = self._clock() - self._settings.job_ttl_s
        with suppress(OSError):  # it may go in this moment
            if (self._folder / name).stat().st_mtime < oldest_s:
                self.remove(name)

    def _check_room(self, owner: str, length: int) -> None:
        settings = self._settings
        check_free_space(
            self._jobs.folder.parent,
            length,
            min_bytes=settings.disk_min_free_bytes,
            min_percent=settings.disk_min_free_percent,
        )
        uploads = []
        for name in os.listdir(self._folder) if self._folder.is_dir() else []:
            if upload := self._read(name):
                uploads.append(upload)
            else:
                self._remove_orphan(name)
        for upload in [one for one in uploads if one.expires_s < self._clock()]:
            uploads.remove(upload)
            self.remove(upload.id)
        waiting = [upload for upload in uploads if upload.job_id is None]
        own = [upload for upload in waiting if upload.owner == owner]
        most = choose_share(owner, settings.max_queued_jobs, len(waiting), len(own))
        if len(own) >= most:
            raise Overloaded(
                f"{len(own)} uploads have begun, the limit is {most}",
                hint="finish them, or DELETE those that are not wanted any more",
                limit=most,
                actual=len(own),
                retry_after_s=30,
            )
        taken = self._jobs.measure_bytes() + sum(upload.length for upload in waiting)
        own_bytes = sum(upload.length for upload in own)
        most = choose_share(owner, settings.jobs_max_bytes, taken, own_bytes)
        if not own:
            most = settings.jobs_max_bytes - taken
        if own_bytes + length > most:
            raise InsufficientStorage(
                f"uploads would have {own_bytes + length} bytes with this one, there is room for "
                f"{most} beside what others have",
                hint="delete jobs and uploads that are no longer needed",
                limit=most,
                actual=own_bytes + length,
                retry_after_s=60,
            )


def choose_share(owner: str, limit: int, taken: int, own: int) -> int:
    """Return how much of a limit one owner may have: half of what the others leave.

    So nobody can take all, however many there are. Anonymous clients are one owner and have it all.
    """
    left = limit - (taken - own)
    return left if owner == ANONYMOUS else -(-left // 2)


def refuse_unknown() -> NotFound:
    return NotFound("there is no such upload", hint="begin a new one: POST /v1/uploads")
