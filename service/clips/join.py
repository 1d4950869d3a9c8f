"""Matte a clip in segments elsewhere, and join what comes back."""

import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from service.clips.fan_out import FanOut
from service.clips.matte import MattedClip, ProgressCallbacks, describe_results, write_error
from service.clips.segments import (
    ClipSegment,
    DistributedClip,
    SegmentResult,
    SegmentRunner,
    cut_segments,
)
from service.frames.report import ReportWriter
from service.frames.segment import SegmentStopped
from service.media.decoder.client import Decoder
from service.media.video.writing.result_writer import VideoWriteError

_POLL_S = 0.2


def matte_in_segments(
    runner: SegmentRunner,
    clip: DistributedClip,
    decoder: Decoder,
    folder: Path,
    watch: ProgressCallbacks,
    stop: threading.Event,
    *,
    max_s: float,
) -> MattedClip:
    """Do what `matte_clip` does, with the network and the encoders wherever the runner has them.

    The clip is read once here, for its times and its audio; each segment begins with a key frame,
    and its coded frames are copied. Memory does not depend on the length. Raises what `matte_clip`
    and the runner raise.
    """
    plan, settings = clip.plan, clip.settings
    info = decoder.open_video(clip.file, plan.selection, max_s=max_s)
    watch.on_open(info.frames_estimate)
    report = ReportWriter()
    background_changes: dict[str, Any] = {}
    waiting: deque[tuple[ClipSegment, Future[SegmentResult]]] = deque()
    try:
        with (
            FanOut(plan, folder, info, settings.video_result_max_mb << 20) as files,
            runner.open(clip) as submit,
        ):

            def join(most: int) -> None:
                """Take the oldest segments until at most so many are under way."""
                while len(waiting) > most:
                    segment, run = waiting.popleft()
                    result = _wait(run, stop)
                    times = [(key.pts, key.duration) for key in segment.frames]
                    background_changes.update(result.background_changes)
                    files.copy_frames(result.files, times, segment.audio)
                    for frame in result.measures:
                        report.add_measured(frame)
                        watch.on_frame()

            for segment in cut_segments(decoder.read_video(info), runner.frames):
                join(runner.ahead - 1)
                waiting.append((segment, submit(info, segment)))
            join(0)
    except VideoWriteError as error:
        raise write_error(error) from error
    whole = report.finish()
    return describe_results(plan, files.writers, info, whole, decoder.repairs, background_changes)


def _wait(run: Future[SegmentResult], stop: threading.Event) -> SegmentResult:
    """Return what a segment became; raises SegmentStopped, and what the run raises."""
    while not stop.is_set():
        try:
            return run.result(timeout=_POLL_S)
        except NotYet:
            if run.done():  # a timeout of its own
                raise
    raise SegmentStopped
