"""One whole clip to the files of its results, in a thread of its own."""

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.clips.fan_out import FanOut
from service.clips.outputs import OUTPUTS
from service.clips.plan import ClipPlan
from service.errors import ImpossibleOutput, InsufficientStorage, MattingError, MediaLimitExceeded
from service.frames.background_clip import BackgroundClip, LoopedClip
from service.frames.network import Network
from service.frames.render import Renderer
from service.frames.report import SegmentReport
from service.frames.segment import MattedFrame, Segment, process_segment
from service.media.audio.types import AudioPacket
from service.media.decoder.client import Decoder
from service.media.video.result_writer import VideoWriteError
from service.media.video.types import ClipSelection, VideoInfo
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultFile:
    """One finished file: its name as clients see it is `path.name`."""

    path: Path
    content_type: str
    bytes: int


@dataclass(frozen=True)
class MattedClip:
    """The results of a clip in the order of the plan, and the facts about it.

    `width` and `height` are those of the largest pictures written; `padded` pixels of them, right
    and below, are there because a codec needs even sizes.
    """

    results: tuple[ResultFile, ...]
    width: int
    height: int
    padded: tuple[int, int]
    info: VideoInfo
    report: SegmentReport


@dataclass(frozen=True)
class ProgressCallbacks:
    """Whom to tell: `on_open` how many frames are to come, `on_frame` after each of them.

    The number follows from what the clip claims; None when it claims nothing.
    """

    on_open: Callable[[int | None], None] = lambda frames_total: None
    on_frame: Callable[[], None] = lambda: None


def matte_clip(
    settings: Settings,
    network: Network,
    decoder: Decoder,
    file: BinaryIO,
    plan: ClipPlan,
    folder: Path,
    watch: ProgressCallbacks,
    stop: threading.Event,
    *,
    max_s: float,
    background_decoder: Decoder | None = None,
) -> MattedClip:
    """Matte a clip of at most `max_s` seconds into files in `folder`, none of them on an error.

    `background_decoder` decodes the background of the plan where that is a clip.

    Raises the errors of the decoder and the batcher, ImpossibleOutput, InsufficientStorage, and
    SegmentStopped once `stop` is set.
    """
    info = open_clip(decoder, file, plan.selection, max_s)
    watch.on_open(estimate_frames(info, plan.selection))
    segment = Segment(network, plan.ofd_threshold)
    looped: LoopedClip | None = None
    if isinstance(plan.render_options.background, BackgroundClip):
        assert background_decoder is not None
        looped = LoopedClip(
            background_decoder,
            plan.render_options.background,
            info.time_base,
            max_s=settings.video_max_s,
            max_frames=settings.video_max_frames,
        )
    renderer = Renderer(plan.render_options, info.height, info.width, looped)
    try:
        with FanOut(
            plan.outputs,
            folder,
            info,
            crf=plan.crf,
            preset=plan.preset,
            limit_bytes=settings.video_result_max_mb << 20,
        ) as files:

            def write(item: MattedFrame | AudioPacket) -> None:
                if isinstance(item, AudioPacket):
                    files.write_audio(item)
                    return
                frame = item.frame
                files.write_frame(renderer.render(item).get, frame.pts, frame.duration)
                watch.on_frame()

            report = process_segment(decoder.read_video(info), segment, write, stop)
    except VideoWriteError as error:
        raise write_error(error) from error
    results = tuple(
        ResultFile(writer.path, OUTPUTS[name].content_type, writer.path.stat().st_size)
        for name, writer in zip(plan.outputs, files.writers, strict=True)
    )
    largest = max(files.writers, key=lambda writer: writer.padded)
    return MattedClip(results, largest.width, largest.height, largest.padded, info, report)


def open_clip(
    decoder: Decoder, file: BinaryIO, selection: ClipSelection, max_s: float
) -> VideoInfo:
    """Return the facts of a clip; raises MediaLimitExceeded for more than `max_s` seconds."""
    info = decoder.open_video(file, selection, max_s=max_s)
    if info.duration_s is not None and info.duration_s > max_s:
        raise MediaLimitExceeded(
            f"the clip lasts {info.duration_s:.1f} s, the limit is {max_s:g}",
            limit=max_s,
            actual=round(info.duration_s, 3),
        )
    return info


def estimate_frames(info: VideoInfo, selection: ClipSelection) -> int | None:
    """Return how many frames a result will have by the claims of the clip, None without any."""
    rate = info.average_rate
    total = info.frames_estimate
    if total is None and info.duration_s and rate:
        total = round(info.duration_s * rate)
    if total is None or rate is None:
        return total
    duration_s = total / float(rate)
    end_s = duration_s if selection.end_s is None else min(selection.end_s, duration_s)
    kept = min(float(rate), selection.max_fps or float(rate))
    return round(max(end_s - selection.start_s, 0) * kept)


def write_error(error: VideoWriteError) -> MattingError:
    """Return what a failed encoder or disk means for the request."""
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
        return InsufficientStorage("the disk of the service is full", retry_after_s=60)
    log.warning("a clip could not be written", exc_info=error)
    return ImpossibleOutput(
        f"this clip cannot be written as {error.file}", hint="convert the clip to MP4 first"
    )
