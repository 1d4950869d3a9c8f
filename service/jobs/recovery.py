"""Recovery at start: bring job rows and files back in line after a crash."""

from collections.abc import Callable, Mapping
from typing import Any

from service.errors import Gone, MattingError, MediaTooComplex
from service.jobs.files.folder import INPUT, JobFiles
from service.jobs.rows.store import Job, JobStore

# A job that has expired is still named for so long.
EXPIRED_S = 86_400.0
ORPHAN_S = 86_400.0
ORPHANS_S = 3600.0


def recover(store: JobStore, max_attempts: int, expires_s: float) -> list[Job]:
    """Bring rows and files in line after whatever has ended the last process.

    Unfinished jobs wait again; those that have lost their files, or were running when the service
    ended for the `max_attempts`th time, have failed and are kept until `expires_s`. What belongs
    to no job goes. Returns all jobs, oldest first.
    """
    jobs, present = store.list_all(), store.files.list_all()
    for job_id in set(present) - {job.id for job in jobs}:
        store.files.remove(job_id)
    with store.transaction():
        for job in jobs:
            error = find_loss(store.files, job, present.get(job.id, {}))
            if job.state == "running" and job.attempts >= max_attempts:
                error = crash_error(job.attempts)
            if error is not None:
                store.files.remove(job.id)
                store.update(job.id, **fail(job, error), expires_s=expires_s)
            elif job.state == "succeeded":
                store.files.keep_results_only(job.id, job.results)
            elif job.is_finished:
                store.files.remove(job.id)
            else:
                store.files.drop_results(job.id)
                store.update(job.id, state="queued", frames_done=0)
    return store.list_all()


def find_loss(files: JobFiles, job: Job, present: Mapping[str, int]) -> MattingError | None:
    """Return the error of a job whose files are not those that its row speaks of.

    `present` are its files, as `JobFiles.list_job` tells them.
    """
    expected: dict[str, int | None] = {INPUT: None}
    if job.is_finished:
        expected = {files.name_result(result): result.bytes for result in job.results}
    for name, size in expected.items():
        if name not in present or size not in (None, present[name]):
            return Gone("files of this job have been removed from the storage of the service")
    return None


class Orphans:
    """Files whose row was never written or is gone; `clock` and `timer` are those of `Jobs`."""

    def __init__(
        self, store: JobStore, clock: Callable[[], float], timer: Callable[[], float]
    ) -> None:
        self._store = store
        self._clock = clock
        self._timer = timer
        self._due_s = timer()

    async def sweep(self) -> None:
        """Remove them once an hour, when they are so old that no upload is under way."""
        if self._timer() < self._due_s:
            return
        store = self._store
        for job_id in await store.disk.run(store.files.list_old, self._clock() - ORPHAN_S):
            if await store.ask(store.load, job_id) is None:
                await store.disk.run(store.files.remove, job_id)
        self._due_s = self._timer() + ORPHANS_S


def crash_error(attempts: int) -> MattingError:
    return MediaTooComplex(
        f"the service or its decoder ended while it worked on this clip, {attempts} times",
        hint="convert the clip to H.264 MP4 first",
        limit=attempts,
        actual=attempts,
    )


def refuse_long_run(limit_s: float) -> MattingError:
    return MediaTooComplex(
        f"the job ran for over {limit_s:g} s", hint="send the clip in parts", limit=limit_s
    )


def fail(job: Job, error: MattingError) -> dict[str, Any]:
    """Return the columns of a job that has failed."""
    return {"state": "failed", "error": error.describe() | {"instance": job.id}, "results": ()}


def count_life_s(job: Job, now_s: float) -> float:
    """Return the seconds until a finished job expires, or an expired one is forgotten.

    Never more than was promised, also when the clock was set back in between.
    """
    end_s = job.expires_s + (EXPIRED_S if job.state == "expired" else 0)
    return min(max(end_s - now_s, 0), end_s - job.created_s)
