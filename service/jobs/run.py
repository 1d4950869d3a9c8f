"""One attempt at a job: matte its clip, verify and publish the results."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, TypeVar

from pydantic import ValidationError

from service.clips.matte import MattedClip, ProgressCallbacks
from service.clips.plan import make_plan, read_background
from service.clips.run import describe_clip, run_clip
from service.clips.segments import SegmentRunner
from service.clips.slots import VideoSlots
from service.errors import (
    Gone,
    InsufficientStorage,
    InvalidOption,
    MattingError,
    NotReady,
    StorageUnavailable,
)
from service.frames.network import choose_frame_model
from service.jobs.check import check_results
from service.jobs.files.folder import BACKGROUND, INPUT, JobFiles, check_budget, hash_uploads
from service.jobs.options import JobOptions
from service.jobs.recovery import find_loss
from service.jobs.rows.store import Job, JobStore, LeaseLost, digest_request
from service.runtime import Runtime
from service.threads import wait_for_thread

PROGRESS_S = 1.0
STORAGE_S = 5.0  # between two tries of a storage that is away
T = TypeVar("T")


class Progress:
    """How far a job is: counted by the thread that writes it, read by the event loop.

    `refusal`, once set, ends the run.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._start_s = timer()
        self.frames_done = 0
        self.frames_total: int | None = None
        self.refusal: MattingError | None = None

    def open(self, frames_total: int | None) -> None:
        self._start_s = self._timer()
        self.frames_total = frames_total

    def count_frame(self) -> None:
        self.frames_done += 1
        if self.frames_total is not None:  # what a file says of itself may be wrong
            self.frames_total = max(self.frames_total, self.frames_done)
        if self.refusal is not None:
            raise self.refusal

    def apply_to(self, job: Job) -> Job:
        """Return a running job as it is now."""
        return replace(job, frames_done=self.frames_done, frames_total=self.frames_total)

    def estimate_s(self) -> float | None:
        """Return the seconds until the last frame, None while they are unknown."""
        if not self.frames_done or self.frames_total is None:
            return None
        elapsed_s = self._timer() - self._start_s
        return elapsed_s / self.frames_done * (self.frames_total - self.frames_done)


async def run_job(
    runtime: Runtime,
    slots: VideoSlots,
    store: JobStore,
    job: Job,
    progress: Progress,
    runner: SegmentRunner | None = None,
) -> dict[str, Any]:
    """Matte the clip of a job, by `runner` if given; return its columns once the results are final.

    The caller holds a place of `slots`. Raises what `run_clip` raises,
    IncompleteResult and InsufficientStorage. Cancelled, it has ended when it raises.
    """
    try:
        options = JobOptions.model_validate(job.options)
    except ValidationError:
        raise InvalidOption(
            "an option of this job no longer exists", hint="send the clip again"
        ) from None
    try:
        model = choose_frame_model(runtime, options)
        clip = await matte_uploads(runtime, slots, store, job, options, progress, runner)
        runtime.access.charge(job.owner, "video-seconds", clip.duration_s)
        await check_results(runtime, slots, clip)
        described = describe_clip(model, clip)
        return await insist(store, partial(publish, runtime, store, job, clip, described))
    finally:
        await wait_for_thread(store.disk.run(store.files.leave, job.id))


async def matte_uploads(
    runtime: Runtime,
    slots: VideoSlots,
    store: JobStore,
    job: Job,
    options: JobOptions,
    progress: Progress,
    runner: SegmentRunner | None,
) -> MattedClip:
    """Matte the clip of a job into its folder of results."""
    frames = runtime.metrics.frames.labels("video")

    def count_frame() -> None:
        frames.inc()
        progress.count_frame()

    with ExitStack() as stack:
        file, background = await insist(store, partial(open_uploads, store, job, stack))
        folder = await wait_for_thread(store.disk.run(store.files.begin_results, job.id))
        picture = await read_background(runtime, background)
        plan = make_plan(options, picture)
        watch = ProgressCallbacks(on_open=progress.open, on_frame=count_frame)
        max_s = runtime.settings.video_max_s
        model = choose_frame_model(runtime, options)
        run = partial(run_clip, runtime, slots, model, file, plan, folder, watch)
        return await run(max_s=max_s, runner=runner, owner=job.owner)


async def insist(store: JobStore, work: Callable[[], T]) -> T:
    """Return what `work` returns in a thread for files; a storage that is away is waited for.

    A clip that was acknowledged, and the work on it, are not thrown away for that.
    """
    while True:
        try:
            return await wait_for_thread(store.disk.run(work))
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_S)


def open_uploads(store: JobStore, job: Job, stack: ExitStack) -> tuple[BinaryIO, BinaryIO | None]:
    """Return the clip and what may be behind the person, open until `stack` closes.

    Raises Gone for files that are not there, or that are not those that were acknowledged.
    """
    files = store.files
    present = files.list_job(job.id)
    if error := find_loss(files, job, present):
        raise error
    opened = {
        name: stack.enter_context(files.open_upload(job.id, name))
        for name in (INPUT, BACKGROUND)
        if name in present
    }
    if files.are_remote:
        if digest_request(job.options, hash_uploads(opened)) != job.request_digest:
            raise Gone("the storage has not kept the clip of this job as it was sent")
        for file in opened.values():
            file.seek(0)
    return opened[INPUT], opened.get(BACKGROUND)


def publish(
    runtime: Runtime, store: JobStore, job: Job, clip: MattedClip, report: dict[str, Any]
) -> dict[str, Any]:
    """Make the results final; return what the row says of them."""
    check_budget(runtime.settings, store.files)
    frames = clip.report.frames
    return {
        "state": "succeeded",
        "results": store.files.publish_results(job.id, clip.results),
        "report": report,
        "frames_done": frames,
        "frames_total": frames,
    }


def choose_rest(files: JobFiles, columns: Mapping[str, Any]) -> Callable[[str], None]:
    """Return what removes the files that a job with these columns no longer needs at its end."""
    if columns["state"] == "failed":
        return files.remove
    return partial(files.keep_results_only, results=columns["results"])


async def write_progress(
    runtime: Runtime,
    store: JobStore,
    job_id: str,
    progress: Progress,
    notify: Callable[[str], None],
) -> None:
    """Write the progress of a job down as it goes, and end it when it needs too much room."""
    written = 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        try:
            await store.disk.run(check_budget, runtime.settings, store.files)
            if progress.frames_done != written:
                written = progress.frames_done
                total = progress.frames_total
                await store.ask(store.update, job_id, frames_done=written, frames_total=total)
                notify(job_id)
        except InsufficientStorage as error:
            progress.refusal = error
        except NotReady:
            continue  # a locked database; the next second writes it down
        except LeaseLost:
            return  # whoever renews the leases ends the run
