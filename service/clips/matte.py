"""Matte a whole clip into its result files; runs in a worker thread."""

import errno
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from service.clips.fan_out import FanOut
from service.clips.outputs import OUTPUTS
from service.clips.plan import ClipPlan
from service.errors import (
    ImpossibleOutput,
    InsufficientStorage,
    MattingError,
    MediaLimitExceeded,
)
from service.frames.background_clip import BackgroundClip, LoopedClip
from service.frames.network import Network
from service.frames.render import Renderer
from service.frames.report import SegmentReport
from service.frames.segment import MattedFrame, Segment, process_segment
from service.media.audio.types import AudioPacket
from service.media.decoder.client import Decoder
from service.media.video.pixel_shape import find_pixel_shape
from service.media.video.repairs import Repairs
from service.media.video.types import VideoInfo
from service.media.video.writing.result_writer import ResultLimit, ResultWriter, VideoWriteError
from service.settings import Settings

log = logging.getLogger(__name__)
# What a disk reports that is broken, read-only or gone; nothing about the clip.
_DISK_ERRORS = (errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOENT)


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
    and below, are there because a codec needs even sizes. `is_stretched`: pixels that are not
    square became so in a result. `background_changes`: what had to be repaired in a clip or a
    picture behind the person, and what became of its pictures.
    """

    results: tuple[ResultFile, ...]
    width: int
    height: int
    padded: tuple[int, int]
    info: VideoInfo
    report: SegmentReport
    repairs: Repairs = Repairs()
    is_stretched: bool = False
    background_changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """How long the results are, seconds."""
        return float(self.report.end_pts * self.info.time_base)


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
    info = decoder.open_video(file, plan.selection, max_s=max_s)
    watch.on_open(info.frames_estimate)
    returns_alpha = plan.render_options.existing_alpha == "return"
    pixel_shape = find_pixel_shape(info)
    segment = Segment(network, plan.ofd_threshold, returns_alpha, float(pixel_shape))
    looped = open_background(settings, plan, info, background_decoder)
    renderer = Renderer(plan.render_options, info.height, info.width, looped, pixel_shape)
    try:
        with FanOut(plan, folder, info, settings.video_result_max_mb << 20) as files:

            def write(item: MattedFrame | AudioPacket) -> None:
                if isinstance(item, AudioPacket):
                    files.write_audio(item)
                    return
                frame = item.frame
                files.write_frame(renderer.render(item).draw, frame.pts, frame.duration)
                watch.on_frame()

            report = process_segment(decoder.read_video(info), segment, write, stop)
    except VideoWriteError as error:
        raise write_error(error) from error
    changes = looped.changes if looped else {}
    return describe_results(plan, files.writers, info, report, decoder.repairs, changes)


def open_background(
    settings: Settings, plan: ClipPlan, info: VideoInfo, decoder: Decoder | None
) -> LoopedClip | None:
    """Return the background of a plan where it is a clip, which `decoder` then decodes."""
    if not isinstance(plan.render_options.background, BackgroundClip):
        return None
    assert decoder is not None
    return LoopedClip(
        decoder,
        plan.render_options.background,
        info.time_base,
        max_s=settings.video_max_s,
        max_frames=settings.video_max_frames,
    )


def describe_results(
    plan: ClipPlan,
    writers: Sequence[ResultWriter],
    info: VideoInfo,
    report: SegmentReport,
    repairs: Repairs,
    background_changes: Mapping[str, Any],
) -> MattedClip:
    """Return what the closed `writers`, in the order of the plan, have made of a clip."""
    results = tuple(
        ResultFile(writer.path, OUTPUTS[name].content_type, writer.path.stat().st_size)
        for name, writer in zip(plan.outputs, writers, strict=True)
    )
    if plan.background_notes:
        background_changes = {"notes": list(plan.background_notes)}
    shown = {writer.picture_size for writer in writers}
    largest = max(writers, key=lambda writer: writer.width * writer.height)
    return MattedClip(
        results,
        largest.width,
        largest.height,
        largest.padded,
        info,
        report,
        repairs,
        is_stretched=shown != {(info.width, info.height)},
        background_changes=background_changes,
    )


def write_error(error: VideoWriteError) -> MattingError:
    """Return what a failed encoder or disk means for the request."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return InsufficientStorage("the disk of the service is full", retry_after_s=60)
    if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
        log.error("the disk failed under a clip", exc_info=error)
        return MattingError("the disk of the service failed", hint="send the clip again")
    if isinstance(cause, ResultLimit):
        return MediaLimitExceeded(
            f"{error.file}: {cause}", hint=cause.hint, limit=cause.limit, actual=cause.actual
        )
    log.warning("a clip could not be written", exc_info=error)
    return ImpossibleOutput(
        f"this clip cannot be written as {error.file}", hint="convert the clip to MP4 first"
    )
