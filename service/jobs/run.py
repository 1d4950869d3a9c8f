"""One attempt at a job: matte its clip, verify and publish the results."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, BinaryIO

from pydantic import ValidationError

from service.clips.matte import MattedClip, ProgressCallbacks
from service.clips.plan import make_plan, read_background
from service.clips.run import describe_clip, run_clip
from service.clips.segments import SegmentRunner
from service.clips.slots import VideoSlots
from service.errors import InsufficientStorage, InvalidOption, MattingError, NotReady
from service.frames.network import choose_frame_model
from service.jobs.check import check_results
from service.jobs.files import BACKGROUND, INPUT, check_budget
from service.jobs.options import JobOptions
from service.jobs.recovery import find_loss
from service.jobs.store import Job, JobResult, JobStore, LeaseLost
from service.runtime import Runtime
from service.threads import wait_for_thread

PROGRESS_S = 1.0


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
    disk, files = runtime.files, store.files
    frames = runtime.metrics.frames.labels("video")

    def count_frame() -> None:
        frames.inc()
        progress.count_frame()

    with ExitStack() as stack:
        file, background = await wait_for_thread(disk.run(open_uploads, store, job, stack))
        folder = await wait_for_thread(disk.run(files.begin_results, job.id))
        picture = await read_background(runtime, background)
        plan = make_plan(options, picture)
        watch = ProgressCallbacks(on_open=progress.open, on_frame=count_frame)
        max_s = runtime.settings.video_max_s
        model = choose_frame_model(runtime, options)
        run = partial(run_clip, runtime, slots, model, file, plan, folder, watch)
        clip = await run(max_s=max_s, runner=runner, owner=job.owner)
    runtime.access.charge(job.owner, "video-seconds", clip.duration_s)
    await check_results(runtime, slots, clip)
    described = describe_clip(model, clip)
    return await wait_for_thread(disk.run(publish, runtime, store, job, clip, described))


def open_uploads(store: JobStore, job: Job, stack: ExitStack) -> tuple[BinaryIO, BinaryIO | None]:
    """Return the clip and what may be behind the person, open until `stack` closes.

    Raises Gone.
    """
    if error := find_loss(store, job):
        raise error
    background = store.files.path(job.id, BACKGROUND)
    return (
        stack.enter_context(store.files.path(job.id, INPUT).open("rb")),
        stack.enter_context(background.open("rb")) if background.exists() else None,
    )


def publish(
    runtime: Runtime, store: JobStore, job: Job, clip: MattedClip, report: dict[str, Any]
) -> dict[str, Any]:
    """Make the results final on the disk; return what the row says of them."""
    check_budget(runtime.settings, store.files)
    digests = store.files.publish_results(job.id, [result.path for result in clip.results])
    results = tuple(
        JobResult(result.path.name, result.content_type, result.bytes, digest)
        for result, digest in zip(clip.results, digests, strict=True)
    )
    frames = clip.report.frames
    return {
        "state": "succeeded",
        "results": results,
        "report": report,
        "frames_done": frames,
        "frames_total": frames,
    }


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
            await runtime.files.run(check_budget, runtime.settings, store.files)
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
