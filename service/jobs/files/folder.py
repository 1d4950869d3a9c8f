"""Files of jobs: fsynced and renamed into place before they are acknowledged."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from service.errors import InsufficientStorage, translate_disk_errors
from service.scratch import check_free_space
from service.settings import Settings

if TYPE_CHECKING:  # the process that starts the others needs no decoders
    from service.clips.matte import ResultFile

PIECE_BYTES = 1 << 20
PART = ".part"
# The names in the folder of a job; nothing of the client's own names comes near the disk.
INPUT, BACKGROUND, RESULTS = "input", "background", "results"


@dataclass(frozen=True)
class JobResult:
    """One finished file of a job."""

    name: str
    content_type: str
    bytes: int
    sha256: str


class JobFiles:
    """A folder for each job, 0700, with files of 0600: the uploads, later `results/`.

    A file or folder is written under a name that ends in `.part` and renamed when it is complete.
    Methods block; those that write raise InsufficientStorage when the disk is full or fails.
    `service.jobs.files.objects` has the same methods over object storage: `are_remote`.
    """

    are_remote: ClassVar[bool] = False

    def __init__(self, folder: Path, part: str = PART) -> None:
        self.folder = folder
        self._part = part  # of results: services that share the folder have one each

    def path(self, job_id: str, *names: str) -> Path:
        return self.folder.joinpath(job_id, *names)

    def list_ids(self) -> list[str]:
        """Return the ids of all jobs that have files."""
        return os.listdir(self.folder) if self.folder.is_dir() else []

    def list_old(self, older_than_s: float) -> list[str]:
        """Return the ids of jobs whose files have not changed since a time, seconds since 1970."""
        found = []
        for job_id in self.list_ids():
            with suppress(FileNotFoundError):
                if self.path(job_id).stat().st_mtime < older_than_s:
                    found.append(job_id)
        return found

    def list_all(self) -> dict[str, dict[str, int]]:
        """Return the files of all jobs by id, as `list_job` does."""
        return {job_id: self.list_job(job_id) for job_id in self.list_ids()}

    def list_job(self, job_id: str) -> dict[str, int]:
        """Return the bytes of each file of a job by its name: `input`, `results/alpha.mp4`."""
        folder = self.path(job_id)
        return {str(path.relative_to(folder)): size for path, size in measure_files(folder)}

    def name_result(self, result: JobResult) -> str:
        """Return the name of a result among the files of its job."""
        return f"{RESULTS}/{result.name}"

    def open_upload(self, job_id: str, name: str) -> BinaryIO:
        """Open an upload for a run, which calls `leave` at its end; raises FileNotFoundError."""
        return self.path(job_id, name).open("rb")

    def open_result(self, job_id: str, result: JobResult) -> BinaryIO:
        """Open a result; raises FileNotFoundError."""
        return self.path(job_id, RESULTS, result.name).open("rb")

    def sign_result(self, job_id: str, result: JobResult) -> str | None:
        """Return a URL that gives a result to whoever has it, None: the service must send it."""
        return None

    def receive(self, job_id: str, uploads: Mapping[str, BinaryIO]) -> dict[str, str]:
        """Store the uploads of a new job under their names; return the SHA-256 of each.

        On an error nothing stays.
        """
        try:
            with translate_disk_errors():
                self.path(job_id).mkdir(0o700, parents=True)
                digests = {
                    name: copy_hashed(source, self.path(job_id, name))
                    for name, source in uploads.items()
                }
                sync_folder(self.path(job_id))
                sync_folder(self.folder)
                sync_folder(self.folder.parent)
                return digests
        except BaseException:
            self.remove(job_id)
            raise

    def begin_results(self, job_id: str) -> Path:
        """Return an empty folder for the results of a run, whatever an earlier one has left."""
        self.drop_results(job_id)
        folder = self.path(job_id, RESULTS + self._part)
        with translate_disk_errors():
            folder.mkdir(0o700)
        return folder

    def publish_results(
        self, job_id: str, results: Iterable["ResultFile"]
    ) -> tuple[JobResult, ...]:
        """Make the results of a run final; return what a row says of them."""
        part = self.path(job_id, RESULTS + self._part)
        with translate_disk_errors():
            published = []
            for result in results:
                with result.path.open("rb") as file:
                    os.fchmod(file.fileno(), 0o600)
                    published.append(describe_result(result, hash_file(file)))
                    os.fsync(file.fileno())
            sync_folder(part)
            os.rename(part, self.path(job_id, RESULTS))
            sync_folder(self.path(job_id))
        return tuple(published)

    def leave(self, job_id: str) -> None:
        """Take in that a run has ended here; what it had fetched is no longer needed."""

    def drop_results(self, job_id: str) -> None:
        """Remove the results, complete or not."""
        for path in self.path(job_id).glob(RESULTS + "*"):
            shutil.rmtree(path, ignore_errors=True)

    def keep_results_only(self, job_id: str, results: Sequence[JobResult]) -> None:
        """Remove what a finished job with these results no longer needs."""
        for path in self.path(job_id).iterdir():
            if path.name != RESULTS:
                remove_tree(path)

    def remove(self, job_id: str) -> None:
        """Remove all files of a job."""
        remove_tree(self.path(job_id))

    def watch(self, on_failure: Callable[[], object]) -> None:
        """Have failures of a storage told."""

    def close(self) -> None:
        """Take in that the process ends."""

    def measure_bytes(self) -> int:
        """Return the bytes of all files of all jobs."""
        return sum(size for _, size in measure_files(self.folder))


def check_room(settings: Settings, files: JobFiles, uploads: Mapping[str, BinaryIO]) -> None:
    """Raise InsufficientStorage when the disk has no room for one more job with these files."""
    upload_bytes = sum(file.seek(0, os.SEEK_END) for file in uploads.values())
    check_free_space(
        files.folder.parent,
        upload_bytes,
        min_bytes=settings.disk_min_free_bytes,
        min_percent=settings.disk_min_free_percent,
    )
    check_budget(settings, files, upload_bytes)


def check_budget(settings: Settings, files: JobFiles, upload_bytes: int = 0) -> None:
    """Raise InsufficientStorage when all jobs together have more bytes than allowed."""
    used = files.measure_bytes() + upload_bytes
    if used > settings.jobs_max_bytes:
        raise InsufficientStorage(
            f"the files of all jobs would have {used} bytes, the limit is "
            f"{settings.jobs_max_bytes}",
            hint="delete jobs that are no longer needed",
            limit=settings.jobs_max_bytes,
            actual=used,
            retry_after_s=60,
        )


def describe_result(result: "ResultFile", sha256: str) -> JobResult:
    """Return what the row of a job says of a result."""
    return JobResult(result.path.name, result.content_type, result.bytes, sha256)


def measure_files(folder: Path) -> list[tuple[Path, int]]:
    """Return the files in a folder and those below it, with their bytes."""
    found = []
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):  # jobs end while their bytes are counted
                found.append((path, path.lstat().st_size))
    return found


def remove_tree(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def copy_hashed(source: BinaryIO, target: Path) -> str:
    """Copy an open file to a path, complete or not there at all; return its SHA-256."""
    part = target.with_name(target.name + PART)
    with open(part, "wb", opener=_open_private) as file:
        digest = hash_file(source, copy_to=file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, target)
    return digest


def hash_uploads(uploads: Mapping[str, BinaryIO]) -> dict[str, str]:
    """Return the SHA-256 of open files, by name."""
    return {name: hash_file(file) for name, file in uploads.items()}


def hash_file(file: BinaryIO, copy_to: BinaryIO | None = None) -> str:
    """Return the SHA-256 of an open file, read from its start, and copy it on the way."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        if copy_to is not None:
            copy_to.write(piece)
    return digest.hexdigest()


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
