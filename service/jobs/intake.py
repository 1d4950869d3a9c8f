"""Job submission: admission, idempotency keys, the durable write before the 202."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from service.access import ANONYMOUS
from service.errors import (
    Draining,
    IdempotencyKeyReused,
    InProgress,
    InsufficientStorage,
    Overloaded,
    StorageUnavailable,
)
from service.jobs.files.folder import check_room, hash_uploads
from service.jobs.jobs import Jobs
from service.jobs.rows.store import Job, digest_request, make_id
from service.runtime import Runtime
from service.threads import wait_for_thread

IDEMPOTENCY_S = 86_400.0


@dataclass(frozen=True)
class Admission:
    """The right to bring one job, and the job that its key has made before, if any."""

    owner: str
    key: str | None
    earlier: Job | None


class JobIntake:
    """Takes the clips of new jobs; methods run on the event loop."""

    def __init__(
        self,
        jobs: Jobs,
        runtime: Runtime,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._store = jobs.store
        self._settings = runtime.settings
        self._metrics = runtime.metrics
        self._disk = jobs.store.disk
        self._clock = clock
        self._arriving: Counter[str] = Counter()  # jobs by owner whose clips are on their way
        self._keys_in_use: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def admit(
        self, owner: str, key: str | None, *, has_room: bool = False
    ) -> AsyncIterator[Admission]:
        """Admit one upload, before its body is read; `key` is the client's `Idempotency-Key`.

        `has_room`: there was room when it began, and it is whole by now. Raises Draining,
        Overloaded, InsufficientStorage, and InProgress for a key that another request is bringing.
        """
        if self._jobs.is_draining:
            raise Draining("the service is shutting down", hint="try again soon", retry_after_s=1)
        if key is None:
            async with self._make_room(owner):
                yield Admission(owner, None, None)
            return
        name = (owner, key)
        if name in self._keys_in_use:
            raise InProgress(
                "a request with this Idempotency-Key is still being received",
                hint="send it again after Retry-After seconds",
                retry_after_s=1,
            )
        self._keys_in_use.add(name)
        try:
            since_s = self._clock() - IDEMPOTENCY_S
            earlier = await self._store.ask(self._store.find_key, owner, key, since_s)
            if earlier is not None or has_room:
                yield Admission(owner, key, earlier)
                return
            async with self._make_room(owner):
                yield Admission(owner, key, None)
        finally:
            self._keys_in_use.discard(name)

    async def submit(
        self,
        admission: Admission,
        uploads: Mapping[str, BinaryIO],
        options: dict[str, Any],
        outputs: tuple[str, ...],
    ) -> Job:
        """Return a new job once it is safe on the disk or in the storage, or the one of the key.

        `uploads` are open files by their names in `service.jobs.files.folder`. Raises
        InsufficientStorage, StorageUnavailable, and IdempotencyKeyReused when the key came with
        another request.
        """
        if admission.earlier is not None:
            digests = await self._disk.run(hash_uploads, uploads)
            if digest_request(options, digests) != admission.earlier.request_digest:
                raise IdempotencyKeyReused(
                    "this Idempotency-Key came with another clip or other options before",
                    hint="draw a new key for each request, and keep it for its repetitions",
                )
            return self._as_accepted(admission.earlier)
        files = self._store.files
        await self._disk.run(check_room, self._settings, files, uploads)
        job_id = self._settings.name_id(make_id())
        digests = await wait_for_thread(self._disk.run(files.receive, job_id, uploads))
        now_s = self._clock()
        job = Job(
            id=job_id,
            owner=admission.owner,
            state="queued",
            options=options,
            outputs=outputs,
            created_s=now_s,
            expires_s=now_s + self._settings.job_ttl_s,
            request_digest=digest_request(options, digests),
            idempotency_key=admission.key,
        )
        try:
            await wait_for_thread(self._store.ask(self._store.insert, job, now_s - IDEMPOTENCY_S))
        except (InProgress, InsufficientStorage):
            with suppress(StorageUnavailable):  # they go as orphans
                await self._disk.run(files.remove, job_id)
            raise
        await self._jobs.enqueue(job_id)
        return job

    def _as_accepted(self, job: Job) -> Job:
        """Return a job as it was when it was answered first."""
        return replace(
            job,
            state="queued",
            expires_s=job.created_s + self._settings.job_ttl_s,
            attempts=0,
            frames_done=0,
            frames_total=None,
            report=None,
            error=None,
            results=(),
        )

    @asynccontextmanager
    async def _make_room(self, owner: str) -> AsyncIterator[None]:
        waiting = await self._jobs.queue.count() + self._arriving.total()
        is_full = waiting >= self._settings.max_queued_jobs
        if is_full and not await self._may_wait_beside(owner):
            self._metrics.requests_rejected.labels("overloaded").inc()
            raise Overloaded(
                f"{waiting} jobs are waiting, the limit is {self._settings.max_queued_jobs}",
                hint="send the clip again after Retry-After seconds",
                limit=self._settings.max_queued_jobs,
                actual=waiting,
                retry_after_s=30,
            )
        self._arriving[owner] += 1
        try:
            await self._disk.run(check_room, self._settings, self._store.files, {})
            yield
        finally:
            self._arriving[owner] -= 1

    async def _may_wait_beside(self, owner: str) -> bool:
        """Say whether a job may wait in a full queue: that of a key which has no other there."""
        if owner == ANONYMOUS or self._arriving[owner]:
            return False
        return await self._store.ask(self._store.count_waiting, owner) == 0
