"""Matte the segments of clips as Ray tasks, wherever the cluster has room."""

import asyncio
import functools
import mmap
import pickle
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import ray
from ray.exceptions import RayTaskError

from service.clips.plan import ClipPlan
from service.clips.segment_run import matte_segment
from service.clips.segments import ClipSegment, DistributedClip, SegmentResult, Submit
from service.errors import MattingError, NotReady
from service.frames.background_clip import BackgroundClip
from service.frames.network import FrameNetwork
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.fair_queue import Caller
from service.inference.health import Health
from service.inference.registry import Models
from service.media.video.types import VideoInfo
from service.metrics import Metrics
from service.settings import Settings

Content = np.ndarray[Any, Any]  # (n,) uint8: what Ray lends to all tasks of a machine, uncopied
RETRY_S = 30


@dataclass(frozen=True)
class Work:
    """What all segments of a clip share; `threads`: of the network of a task."""

    settings: Settings
    model: str
    plan: ClipPlan
    threads: int


class RaySegments:
    """Mattes segments as tasks of the cluster (a SegmentRunner).

    `frames` in each, at most `ahead` of a clip under way, each with so many `cpus` and `gpus`.
    When its worker or its machine dies, a segment is begun anew, `retries` times.
    """

    def __init__(
        self, *, frames: int, ahead: int, cpus: int, gpus: float = 0, retries: int = 3
    ) -> None:
        self.frames, self.ahead = frames, ahead
        self._threads = cpus
        self._task = ray.remote(matte).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=retries, scheduling_strategy="SPREAD"
        )

    @contextmanager
    def open(self, clip: DistributedClip) -> Iterator[Submit]:
        """Give the clip to the cluster once; at the end stop the tasks that still run."""
        plan, behind = clip.plan, clip.plan.render_options.background
        background = None
        if isinstance(behind, BackgroundClip):  # its file stays here
            background = read_all(behind.file)
            plan = replace(plan, render_options=replace(plan.render_options, background=(0, 0, 0)))
        work = Work(clip.settings, clip.model, plan, self._threads)
        shared = [ray.put(one) for one in (work, read_all(clip.file), background)]
        running: dict[Any, None] = {}

        def submit(info: VideoInfo, segment: ClipSegment) -> Future[SegmentResult]:
            run = self._task.remote(*shared, info, replace(segment, audio=()))
            running[run] = None
            result: Future[SegmentResult] = Future()
            result.add_done_callback(lambda _: running.pop(run, None))
            run.future().add_done_callback(functools.partial(settle, result))
            return result

        try:
            yield submit
        finally:
            for run in list(running):
                ray.cancel(run)


def settle(result: Future[SegmentResult], done: Future[SegmentResult]) -> None:
    """Hand on what a task has returned or raised, in the words of the service."""
    error = done.exception()
    if error is None:
        return result.set_result(done.result())
    if isinstance(error, RayTaskError):  # the segment itself failed
        error = error.cause
    if not isinstance(error, MattingError):
        text = f"a segment could not be matted: {error}".splitlines()[0]
        error = NotReady(text, hint="look at the Ray cluster", retry_after_s=RETRY_S)
    result.set_exception(error)


def matte(
    work: Work, file: Content, background: Content | None, info: VideoInfo, segment: ClipSegment
) -> SegmentResult:
    """Matte a segment in this process; one that is interrupted leaves nothing behind."""
    folder = Path(tempfile.gettempdir())
    settings = work.settings.model_copy(update={"threads": work.threads, "data_dir": folder})
    network = open_networks(pickle.dumps(settings)).make(work.model, work.plan)
    with ExitStack() as stack:
        clip, plan = stack.enter_context(write_all(file)), work.plan
        if background is not None:
            behind = BackgroundClip(stack.enter_context(write_all(background)))
            plan = replace(plan, render_options=replace(plan.render_options, background=behind))
        rest = plan, info, segment, threading.Event()
        return matte_segment(settings, network, clip, *rest)


@functools.lru_cache(maxsize=1)
def open_networks(settings: bytes) -> "Networks":
    """Return the networks of this process, which Ray keeps for the next segments."""
    return Networks(pickle.loads(settings))  # our own, see above


class Networks:
    """The models of the service and their queues, on an event loop of their own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="network").start()
        self._models = self._run(Models.start(settings, None, None, self._make_batcher))

    def make(self, model: str, plan: ClipPlan) -> FrameNetwork:
        """Return a model, loaded."""
        return self._run(self._make(model, plan))

    async def _make(self, model: str, plan: ClipPlan) -> FrameNetwork:
        chosen = self._models.choose(model)
        await chosen.load()
        region = plan.render_options.region
        return FrameNetwork(self._settings, chosen, plan.ref_size, region, Caller("clip"))

    def _make_batcher(self, engine: Engine) -> Batcher:
        return Batcher(engine, Metrics(), Health())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def read_all(file: BinaryIO) -> Content:
    """Return what is in a file; a decoder that is reading it keeps its place."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return np.frombuffer(content, np.uint8).copy()


@contextmanager
def write_all(content: Content) -> Iterator[BinaryIO]:
    """Give what a decoder reads as a file."""
    with tempfile.TemporaryFile() as file:
        file.write(content.data)
        yield file
