"""One run of a job: its clip matted, its results read back and made final."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, BinaryIO

from pydantic import ValidationError

from service.api.dependencies import Services
from service.clips.matte import MattedClip, ProgressCallbacks
from service.clips.options import VideoOptions
from service.clips.plan import make_plan, read_background
from service.clips.run import describe_clip, finish, run_clip
from service.errors import InvalidOption, MattingError
from service.jobs.check import check_results
from service.jobs.files import BACKGROUND, INPUT, check_budget
from service.jobs.recovery import find_loss
from service.jobs.store import Job, JobResult, JobStore


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
    services: Services, store: JobStore, job: Job, progress: Progress
) -> dict[str, Any]:
    """Matte the clip of a job; return the columns of its row once the results are final.

    The caller holds a place of `services.videos`. Raises what `run_clip` raises,
    IncompleteResult and InsufficientStorage. Cancelled, it has ended when it raises.
    """
    try:
        options = VideoOptions.model_validate(job.options)
    except ValidationError:
        raise InvalidOption(
            "an option of this job no longer exists", hint="send the clip again"
        ) from None
    workers, files = services.workers, store.files
    frames = services.metrics.frames.labels("video")

    def count_frame() -> None:
        frames.inc()
        progress.count_frame()

    with ExitStack() as stack:
        file, behind = await finish(workers.run(open_uploads, store, job, stack))
        folder = await finish(workers.run(files.begin_results, job.id))
        picture = await read_background(services, behind)
        plan = make_plan(options, picture)
        watch = ProgressCallbacks(on_open=progress.open, on_frame=count_frame)
        max_s = services.settings.video_max_s
        clip = await run_clip(services, file, plan, folder, watch, max_s=max_s)
    await check_results(services, clip)
    return await finish(workers.run(publish, services, store, job, clip))


def open_uploads(store: JobStore, job: Job, stack: ExitStack) -> tuple[BinaryIO, BinaryIO | None]:
    """Return the clip and what may be behind the person, open until `stack` closes.

    Raises Gone.
    """
    if error := find_loss(store, job):
        raise error
    behind = store.files.path(job.id, BACKGROUND)
    return (
        stack.enter_context(store.files.path(job.id, INPUT).open("rb")),
        stack.enter_context(behind.open("rb")) if behind.exists() else None,
    )


def publish(services: Services, store: JobStore, job: Job, clip: MattedClip) -> dict[str, Any]:
    """Make the results final on the disk; return what the row says of them."""
    check_budget(services.settings, store.files)
    digests = store.files.publish_results(job.id, [result.path for result in clip.results])
    results = tuple(
        JobResult(result.path.name, result.content_type, result.bytes, digest)
        for result, digest in zip(clip.results, digests, strict=True)
    )
    frames = clip.report.frames
    return {
        "state": "succeeded",
        "results": results,
        "report": describe_clip(services, clip),
        "frames_done": frames,
        "frames_total": frames,
    }
