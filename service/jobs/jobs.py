"""Jobs: queue, execution, progress, expiry."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial

from service.clips.segments import SegmentRunner
from service.clips.slots import VideoSlots
from service.errors import DecoderCrashed, InsufficientStorage, MattingError, NotFound
from service.jobs.changes import Changes, Watchers, watch_job
from service.jobs.queue import SharedQueue, make_queue
from service.jobs.record import record_run
from service.jobs.recovery import (
    EXPIRED_S,
    Orphans,
    count_life_s,
    crash_error,
    fail,
    recover,
    refuse_long_run,
)
from service.jobs.retries import Retries
from service.jobs.rows.store import Job, JobStore, LeaseLost
from service.jobs.run import Progress, choose_rest, run_job, write_progress
from service.runtime import Runtime
from service.threads import wait_for_thread

log = logging.getLogger(__name__)
SWEEP_S = 10.0
KEEP_ALIVE_S = 15.0


@dataclass(frozen=True)
class _Run:
    task: asyncio.Task[None]
    progress: Progress


class Jobs:
    """All jobs of an app: runs them in the slots for videos, shows them, lets them expire.

    Methods run on the event loop. `clock` tells the time of day, for people and for other
    processes; lives are measured by `timer`, which nobody sets. `on_end` is told of finished jobs.
    `runner` mattes clips in segments elsewhere, None: here.
    """

    def __init__(
        self,
        store: JobStore,
        runtime: Runtime,
        slots: VideoSlots,
        *,
        on_end: Callable[[Job], None] = lambda job: None,
        runner: SegmentRunner | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        store.files.watch(runtime.metrics.storage_failures.inc)
        self._runtime = runtime
        self._slots = slots
        self._settings = runtime.settings
        self._on_end = on_end
        self._run = partial(run_job, runtime, slots, store, runner=runner)
        self._clock = clock
        self._timer = timer
        self.queue = make_queue(store)
        self._is_waiting = asyncio.Event()
        self._running: dict[str, _Run] = {}
        self._orphans = Orphans(store, clock, timer)
        self._due: dict[str, float] = {}  # when a finished job goes a step further, by `timer`
        self._retries = Retries(self._settings, self._append)
        self._watchers = Watchers()
        self._changes = Changes(store, runtime, self._watchers)
        self._tasks: list[asyncio.Task[None]] = []
        self.is_draining = False

    async def start(self) -> None:
        """Go on where the last process ended."""
        loop = asyncio.get_running_loop()
        if isinstance(self.queue, SharedQueue):
            self._tasks = [loop.create_task(self.queue.share(self._look, self._lose))]
        else:
            await self._recover()
        await self._changes.count_states()
        self._tasks += [loop.create_task(w) for w in (self._dispatch(), self._sweep_for_ever())]

    async def _recover(self) -> None:
        now_s, store, most = self._clock(), self.store, self._settings.job_max_attempts
        expires_s = now_s + self._settings.job_ttl_s
        for job in await store.ask(recover, store, most, expires_s):
            if job.is_finished:
                self._due[job.id] = self._timer() + count_life_s(job, now_s)
                self._on_end(job)
            else:
                self._append(job.id)

    def drain(self) -> None:
        """Take no more jobs and stop those that run: they wait for the next process."""
        self.is_draining = True
        self._retries.close()
        for task in (*self._tasks, *(run.task for run in self._running.values())):
            task.cancel()
        self._watchers.notify_all()

    async def aclose(self) -> None:
        self.drain()
        tasks = [*self._tasks, *(run.task for run in self._running.values())]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self.store.close)

    async def enqueue(self, job_id: str) -> None:
        """Run a job, whose row is there, when its turn has come."""
        self._append(job_id)
        await self._changes.count_states()

    async def find(self, owner: str, job_id: str) -> Job:
        """Return a job as it is now; raises NotFound, for the job of another owner too."""
        job = await self.store.ask(self.store.load, job_id)
        if job is None or job.owner != owner:
            raise NotFound("there is no job with this id", hint="GET /v1/jobs lists them")
        return self._with_progress(job)

    async def list_owned(self, owner: str, limit: int, before: str | None) -> list[Job]:
        """Return jobs of an owner, newest first, those older than the job `before`."""
        if before is not None:
            await self.find(owner, before)
        jobs = await self.store.ask(self.store.list_owned, owner, limit, before)
        return [self._with_progress(job) for job in jobs]

    def estimate_s(self, job: Job) -> float | None:
        """Return how long a running job will take, seconds; None while that is unknown."""
        run = self._running.get(job.id)
        return None if run is None or job.is_finished else run.progress.estimate_s()

    async def delete(self, owner: str, job_id: str) -> None:
        """Stop a job if need be and forget it, files and all.

        Raises NotFound, and InsufficientStorage when there is not even room for that.
        """
        job = await self.find(owner, job_id)
        while run := self._running.get(job_id):
            run.task.cancel()
            await asyncio.wait([run.task])
        self._retries.forget(job_id)
        self.queue.remove(job_id)
        try:
            await self._forget(job_id)
        except InsufficientStorage:
            if not job.is_finished:
                self._append(job_id)  # it fails for want of its files, once there is room
            raise

    def watch(self, job: Job) -> AsyncGenerator[Job | None]:
        """Yield a job as it is now and whenever it has changed, until it is finished.

        None is yielded when nothing happens for a while. A job that is deleted meanwhile is
        yielded as canceled. Ends early when the service does.
        """
        return watch_job(
            self._watchers, self.find, job, self._timer, KEEP_ALIVE_S, lambda: self.is_draining
        )

    async def sweep(self) -> None:
        """Let what is due expire, and forget what expired long ago."""
        now_s = self._timer()
        due = [job_id for job_id, due_s in self._due.items() if due_s <= now_s]
        if isinstance(self.queue, SharedQueue):
            due = await self.queue.list_due(self._clock())
            await self._changes.count_states()
        for job_id in due:
            job = await self.store.ask(self.store.load, job_id)
            if job is None or job.state == "expired":
                await self._forget(job_id)
                continue
            expire = partial(self.store.update, job_id, state="expired", results=())
            await self._changes.apply(job_id, expire, self.store.files.remove)
            self._due[job_id] = now_s + EXPIRED_S
        await self._orphans.sweep()

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except Exception:  # most of all a full disk: the next pass tries again
                log.exception("jobs could not expire")

    def _look(self) -> None:
        self._is_waiting.set()
        self._watchers.notify_all()

    def _lose(self, job_id: str) -> None:
        if run := self._running.get(job_id):
            run.task.cancel()
            return
        self._retries.forget(job_id)
        self.queue.end(job_id)

    async def _forget(self, job_id: str) -> None:
        delete = partial(self.store.delete, job_id)
        await self._changes.apply(job_id, delete, self.store.files.remove)
        self._due.pop(job_id, None)

    def _append(self, job_id: str) -> None:
        self.queue.put(job_id)
        self._is_waiting.set()

    async def _dispatch(self) -> None:
        """Start the oldest waiting job whenever a slot for a video is free."""
        slots = self._slots
        while True:
            await self._is_waiting.wait()
            await slots.wait()
            self._is_waiting.clear()
            job_id = await self.queue.take()
            if job_id is None:  # deleted in between, or taken by another service
                slots.leave()
                continue
            self._is_waiting.set()  # for the next one
            progress = Progress(self._timer)
            task = asyncio.get_running_loop().create_task(self._work(job_id, progress))
            self._running[job_id] = _Run(task, progress)
            # Not in the task: one that is cancelled before its first turn runs no line of its own.
            task.add_done_callback(partial(self._end_run, job_id))

    def _end_run(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self._running[job_id]
        self._slots.leave()
        if not self._retries.is_scheduled(job_id):
            self.queue.end(job_id)
        self._is_waiting.set()
        self._watchers.notify(job_id)

    async def _work(self, job_id: str, progress: Progress) -> None:
        """Run a job once, in the slot that is held for it, and write down what came of it."""
        follow = write_progress(self._runtime, self.store, job_id, progress, self._watchers.notify)
        ticker = asyncio.get_running_loop().create_task(follow)
        try:
            job = await self.store.ask(self.store.load, job_id)
            if job is not None:
                with record_run(self._runtime, job):
                    await self._attempt(job, progress)
        except asyncio.CancelledError:
            if self.is_draining:
                await wait_for_thread(self.store.ask(self.store.requeue, job_id))
            raise
        except LeaseLost as error:
            log.warning("a run was given up", extra={"fields": {"job": job_id, "why": str(error)}})
        except Exception as error:  # else the next start of the service tries again
            if not (isinstance(error, MattingError) and self._retries.schedule(job_id, error)):
                log.exception("a job could not be brought to an end")
        finally:
            ticker.cancel()

    async def _attempt(self, job: Job, progress: Progress) -> None:
        attempts, files = job.attempts + 1, self.store.files
        columns = {"state": "running", "attempts": attempts, "frames_done": 0, "frames_total": None}
        try:
            if job.state == "running" and job.attempts >= self._settings.job_max_attempts:
                raise crash_error(job.attempts)  # of the service that held it before
            # Before the run: a clip that takes the process with it must not do so for ever.
            await wait_for_thread(self.store.ask(self.store.update, job.id, **columns))
            await self._changes.count_states()
            self._watchers.notify(job.id)
            async with asyncio.timeout(self._settings.job_timeout_s):
                columns = await self._run(job, progress)
        except LeaseLost:
            raise
        except TimeoutError:
            columns = fail(job, refuse_long_run(self._settings.job_timeout_s))
        except DecoderCrashed:
            if attempts < self._settings.job_max_attempts:
                await self._changes.write(job.id, files.drop_results, state="queued")
                self._append(job.id)
                return
            columns = fail(job, crash_error(attempts))
        except MattingError as error:
            if self._retries.schedule(job.id, error):
                queued = {"state": "queued", "attempts": job.attempts}
                return await self._changes.write(job.id, files.drop_results, **queued)
            columns = fail(job, error)
        except Exception:
            log.exception("a job failed")
            columns = fail(job, MattingError("an internal error happened"))
        self._retries.forget(job.id)
        ttl_s = self._settings.job_ttl_s
        columns["expires_s"] = self._clock() + ttl_s
        await self._changes.write(job.id, choose_rest(files, columns), **columns)
        self._due[job.id] = self._timer() + ttl_s
        if (ended := await self.store.ask(self.store.load, job.id)) is not None:
            self._on_end(ended)

    def _with_progress(self, job: Job) -> Job:
        run = self._running.get(job.id)
        return job if run is None or job.state != "running" else run.progress.apply_to(job)
