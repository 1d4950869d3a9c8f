"""Cut a clip into segments that can be matted apart, each exactly as in the whole clip."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np

from service.clips.plan import ClipPlan
from service.frames.measures import FrameMeasures
from service.media.audio.types import AudioPacket
from service.media.video.types import VideoFrame, VideoInfo
from service.settings import Settings

# Smoothing needs the frame before, and the change since the frame before needs that one's smoothed
# matte, which needs another; behind, smoothing needs one.
FRAMES_BEFORE = 2


@dataclass(frozen=True)
class FrameKey:
    """A frame by its times, ticks of the clip, and the CRC-32 of its pixels."""

    pts: int
    duration: int | None
    checksum: int


@dataclass(frozen=True)
class ClipSegment:
    """Frames that are matted together, with their neighbours, of which nothing is written.

    `before`: at most FRAMES_BEFORE, `after`: one, none at the end of the clip. `origin_pts` is the
    time of the clip's first frame. `audio` came with them: the number of frames of this segment
    that were before it, and the packet.
    """

    number: int
    origin_pts: int
    before: tuple[FrameKey, ...]
    frames: tuple[FrameKey, ...]
    after: tuple[FrameKey, ...]
    audio: tuple[tuple[int, AudioPacket], ...] = ()

    @property
    def keys(self) -> tuple[FrameKey, ...]:
        """All frames that the network must see."""
        return (*self.before, *self.frames, *self.after)


@dataclass(frozen=True)
class SegmentResult:
    """The files of a segment, one for each output of the plan, and the numbers of its frames.

    `background_changes`: as in MattedClip, up to the end of the segment.
    """

    files: tuple[bytes, ...]
    measures: tuple[FrameMeasures, ...]
    background_changes: Mapping[str, Any]


@dataclass(frozen=True)
class DistributedClip:
    """A clip whose segments are matted elsewhere; `file` is open as long as they are.

    A decoder reads it meanwhile and shares its position: read it by mmap or pread, without a seek.
    """

    settings: Settings
    model: str
    plan: ClipPlan
    file: BinaryIO


Submit = Callable[[VideoInfo, ClipSegment], Future[SegmentResult]]


class SegmentRunner(Protocol):
    """Where segments are matted: `frames` in each, at most `ahead` of them under way.

    Opened for a clip it gives the function that begins a segment; at the end of the `with` block
    what still runs is stopped.
    """

    @property
    def frames(self) -> int: ...

    @property
    def ahead(self) -> int: ...

    def open(self, clip: DistributedClip) -> AbstractContextManager[Submit]: ...


def make_key(frame: VideoFrame) -> FrameKey:
    pixels = frame.image if frame.planes is None else frame.planes.planes
    checksum = zlib.crc32(np.ascontiguousarray(pixels).data)
    if frame.alpha is not None:
        checksum = zlib.crc32(np.ascontiguousarray(frame.alpha).data, checksum)
    return FrameKey(frame.pts, frame.duration, checksum)


def cut_segments(items: Iterable[VideoFrame | AudioPacket], size: int) -> Iterator[ClipSegment]:
    """Yield the segments of a clip, `size` frames each, as soon as their frames are known.

    Memory holds the keys and the audio of one segment, whatever came.
    """
    before: tuple[FrameKey, ...] = ()
    keys: list[FrameKey] = []
    audio: list[tuple[int, AudioPacket]] = []
    number, origin_pts = 0, 0
    for item in items:
        if isinstance(item, AudioPacket):
            audio.append((len(keys), item))
            continue
        if number == 0 and not keys:
            origin_pts = item.pts
        keys.append(make_key(item))
        if len(keys) > size:
            frames = tuple(keys[:size])
            yield ClipSegment(number, origin_pts, before, frames, (keys[size],), tuple(audio))
            before = (*before, *frames)[-FRAMES_BEFORE:]
            keys, audio, number = keys[size:], [], number + 1
    if keys:
        yield ClipSegment(number, origin_pts, before, tuple(keys), (), tuple(audio))
