"""Files of jobs in object storage, so that any service on their database finds them."""

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from service.errors import StorageUnavailable, translate_disk_errors
from service.jobs.files.bucket import Bucket, StoredObject
from service.jobs.files.folder import (
    RESULTS,
    JobFiles,
    JobResult,
    copy_hashed,
    describe_result,
    hash_file,
    measure_files,
)
from service.scratch import ScratchFolder

if TYPE_CHECKING:
    from service.clips.matte import ResultFile

COUNTED_S = 10.0  # bytes of all objects are counted again after so long


class ObjectFiles(JobFiles):
    """Objects `NAME/JOB/input`, `background` and `results/SHA256/FILE` below the URL of a storage.

    `name` is that of the database, so that several can share a bucket. Results have their digest
    in their key: a run that has lost its job to another service overwrites nothing of its.
    What a run works on lies in `scratch`; `folder` is where uploads in pieces lie beside.
    Methods raise StorageUnavailable besides what those of JobFiles raise.
    """

    are_remote: ClassVar[bool] = True

    def __init__(
        self,
        bucket: Bucket,
        name: str,
        folder: Path,
        scratch: ScratchFolder,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(folder)
        self._bucket = bucket
        self._name = name
        self._scratch = scratch
        self._timer = timer
        self._stored_bytes: int | None = None
        self._counted_s = -math.inf

    def list_ids(self) -> list[str]:
        return list(self.list_all())

    def list_old(self, older_than_s: float) -> list[str]:
        newest: dict[str, float] = {}
        for found in self._bucket.list(self._name):
            job_id = self._split(found)[0]
            newest[job_id] = max(newest.get(job_id, 0), found.changed.timestamp())
        return [job_id for job_id, changed_s in newest.items() if changed_s < older_than_s]

    def list_all(self) -> dict[str, dict[str, int]]:
        jobs: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for found in self._bucket.list(self._name):
            job_id, name = self._split(found)
            jobs[job_id][name] = found.bytes
        return dict(jobs)

    def list_job(self, job_id: str) -> dict[str, int]:
        return {self._split(one)[1]: one.bytes for one in self._bucket.list(self._key(job_id))}

    def name_result(self, result: JobResult) -> str:
        return f"{RESULTS}/{result.sha256}/{result.name}"

    def receive(self, job_id: str, uploads: Mapping[str, BinaryIO]) -> dict[str, str]:
        digests = {}
        try:
            for name, file in uploads.items():
                digests[name] = hash_file(file)
                self._put(self._key(job_id, name), file, file.tell())
        except StorageUnavailable:
            raise  # what is there is an orphan, which goes when it is old
        except BaseException:
            with suppress(StorageUnavailable):
                self.remove(job_id)
            raise
        return digests

    def open_upload(self, job_id: str, name: str) -> BinaryIO:
        path = self._local(job_id, name)
        with self._bucket.open(self._key(job_id, name)) as file, translate_disk_errors():
            path.parent.mkdir(0o700, exist_ok=True)
            copy_hashed(file, path)
        return path.open("rb")

    def open_result(self, job_id: str, result: JobResult) -> BinaryIO:
        return self._bucket.open(self._key(job_id, self.name_result(result)))

    def sign_result(self, job_id: str, result: JobResult) -> str | None:
        return self._bucket.sign(self._key(job_id, self.name_result(result)))

    def begin_results(self, job_id: str) -> Path:
        folder = self._local(job_id, RESULTS)
        shutil.rmtree(folder, ignore_errors=True)
        with translate_disk_errors():
            folder.mkdir(0o700, parents=True)
        return folder

    def publish_results(
        self, job_id: str, results: Iterable["ResultFile"]
    ) -> tuple[JobResult, ...]:
        """Store the results of a run and read them back; return what a row says of them."""
        published = []
        for result in results:
            with result.path.open("rb") as file:
                described = describe_result(result, hash_file(file))
            key = self._key(job_id, self.name_result(described))
            attributes = {
                "Content-Type": result.content_type,
                "Content-Disposition": f'attachment; filename="{described.name}"',
            }
            self._put(key, result.path, result.bytes, attributes)
            with self._bucket.open(key) as stored:
                if hash_file(stored) != described.sha256:
                    raise StorageUnavailable(f"the object storage has altered {described.name}")
            published.append(described)
        return tuple(published)

    def leave(self, job_id: str) -> None:
        shutil.rmtree(self._local(job_id), ignore_errors=True)

    def drop_results(self, job_id: str) -> None:
        """Nothing: what a run has stored before it ended goes with the end of the next one."""

    def keep_results_only(self, job_id: str, results: Sequence[JobResult]) -> None:
        kept = {self.name_result(result) for result in results}
        self._remove(job_id, set(self.list_job(job_id)) - kept)

    def remove(self, job_id: str) -> None:
        self._remove(job_id, self.list_job(job_id))

    def watch(self, on_failure: Callable[[], object]) -> None:
        self._bucket.on_failure = on_failure

    def close(self) -> None:
        self._scratch.close()

    def measure_bytes(self) -> int:
        """Return the bytes of all objects and runs; while the storage is away, those of before."""
        now_s = self._timer()
        if self._stored_bytes is None or now_s - self._counted_s > COUNTED_S:
            self._counted_s = now_s
            try:
                self._stored_bytes = sum(found.bytes for found in self._bucket.list(self._name))
            except StorageUnavailable:
                if self._stored_bytes is None:
                    raise
        return self._stored_bytes + sum(size for _, size in measure_files(self._scratch.path))

    def _put(
        self,
        key: str,
        file: BinaryIO | Path,
        size_bytes: int,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self._counted_s = -math.inf
        stored = self._bucket.put(key, file, attributes)
        if stored != size_bytes:
            raise StorageUnavailable(
                f"the object storage has {stored} of {size_bytes} bytes of a file", retry_after_s=5
            )

    def _remove(self, job_id: str, names: Iterable[str]) -> None:
        self._counted_s = -math.inf
        self._bucket.remove([self._key(job_id, name) for name in names])

    def _key(self, *names: str) -> str:
        return "/".join((self._name, *names))

    def _split(self, found: StoredObject) -> tuple[str, str]:
        """Return the job of an object, and its name there."""
        job_id, _, name = found.key.removeprefix(f"{self._name}/").partition("/")
        return job_id, name

    def _local(self, job_id: str, *names: str) -> Path:
        return self._scratch.path.joinpath(job_id, *names)
