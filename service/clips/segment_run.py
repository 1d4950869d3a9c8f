"""Matte one segment of a clip into files of its own; blocks its thread."""

import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from service.clips.fan_out import FanOut
from service.clips.matte import open_background, write_error
from service.clips.plan import ClipPlan
from service.clips.segments import ClipSegment, SegmentResult, make_key
from service.errors import DecoderCrashed
from service.frames.background_clip import BackgroundClip
from service.frames.network import Network
from service.frames.render import Renderer
from service.frames.segment import MattedFrame, Segment, measure_segment
from service.media.decoder.client import Decoder
from service.media.video.pixel_shape import find_pixel_shape
from service.media.video.types import ClipSelection, VideoFrame, VideoInfo
from service.media.video.writing.result_writer import VideoWriteError
from service.settings import Settings

log = logging.getLogger(__name__)


class FramesDiffer(Exception):
    """What was read is not what the whole clip has there."""


def matte_segment(
    settings: Settings,
    network: Network,
    file: BinaryIO,
    plan: ClipPlan,
    info: VideoInfo,
    segment: ClipSegment,
    stop: threading.Event,
) -> SegmentResult:
    """Matte the frames of a segment; mattes and pictures are those of the whole clip, bit by bit.

    `file` is the clip, `info` what its reader says of all of it. Decoding begins at a key frame
    before the segment; where that gives other frames than those that the segment names, at the
    start of the clip. Raises the errors of `matte_clip`.
    """
    work = partial(_matte, settings, network, file, plan, info, segment, stop)
    try:
        return work(reads_all=False)
    except FramesDiffer:
        log.info("a segment is read from the start", extra={"fields": {"number": segment.number}})
    try:
        return work(reads_all=True)
    except FramesDiffer:  # another build of the decoder than where the clip was cut
        raise DecoderCrashed("this machine decodes the clip to other frames") from None


def _matte(
    settings: Settings,
    network: Network,
    file: BinaryIO,
    plan: ClipPlan,
    info: VideoInfo,
    segment: ClipSegment,
    stop: threading.Event,
    *,
    reads_all: bool,
) -> SegmentResult:
    silent = replace(info, audio=(), origin_pts=segment.frames[0].pts)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=settings.data_dir)))
        frames = _Frames(settings, file, plan, info, segment, stack, reads_all=reads_all)
        try:
            with FanOut(plan, folder, silent, settings.video_result_max_mb << 20) as files:

                def write(item: MattedFrame) -> None:
                    frame = item.frame
                    if segment.frames[0].pts <= frame.pts <= segment.frames[-1].pts:
                        draw = frames.renderer.render(item).draw
                        files.write_frame(draw, frame.pts, frame.duration)

                returns_alpha = plan.render_options.existing_alpha == "return"
                pixel_shape = float(find_pixel_shape(info))
                how = Segment(network, plan.ofd_threshold, returns_alpha, pixel_shape)
                measures = measure_segment(frames.read(), how, write, stop)
        except VideoWriteError as error:
            raise write_error(error) from error
        contents = tuple(writer.path.read_bytes() for writer in files.writers)
    first = len(segment.before)
    counted = tuple(measures[first : first + len(segment.frames)])
    return SegmentResult(contents, counted, frames.background_changes)


class _Frames:
    """The frames of a segment, and what renders them; their decoders end with the `stack`."""

    def __init__(
        self,
        settings: Settings,
        file: BinaryIO,
        plan: ClipPlan,
        info: VideoInfo,
        segment: ClipSegment,
        stack: ExitStack,
        *,
        reads_all: bool,
    ) -> None:
        selection = _select(plan.selection, info, segment, reads_all=reads_all)
        self._keys = segment.keys
        self._decoder = stack.enter_context(closing(Decoder(settings)))
        self._info = self._decoder.open_video(file, selection, max_s=settings.video_max_s)
        if (self._info.width, self._info.height) != (info.width, info.height):
            raise FramesDiffer
        background = None
        if isinstance(plan.render_options.background, BackgroundClip):
            background = stack.enter_context(closing(Decoder(settings)))
        looped = open_background(settings, plan, info, background)
        self.background_changes: dict[str, Any] = {}
        if looped is not None:
            looped.get(segment.origin_pts)  # it began with the clip
            self.background_changes = looped.changes
        self.renderer = Renderer(
            plan.render_options, info.height, info.width, looped, find_pixel_shape(info)
        )

    def read(self) -> Iterator[VideoFrame]:
        """Yield the frames; raises FramesDiffer when they are not as the segment says."""
        waiting = list(reversed(self._keys))
        for item in self._decoder.read_video(self._info):
            if not isinstance(item, VideoFrame) or item.pts < waiting[-1].pts:
                continue
            key = waiting.pop()
            frame = replace(item, duration=key.duration)
            if make_key(frame) != key:
                raise FramesDiffer
            yield frame
            if not waiting:
                return
        raise FramesDiffer


def _select(
    whole: ClipSelection, info: VideoInfo, segment: ClipSegment, *, reads_all: bool
) -> ClipSelection:
    """Return what to read: also what `max_fps` leaves out, which the segment does not name."""
    every = replace(whole, audio=(), max_fps=None)
    first = segment.keys[0].pts
    if reads_all or first == segment.origin_pts:
        return every
    return replace(every, after_s=float((first - 1) * info.time_base))
