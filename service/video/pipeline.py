"""One segment of video through the network: read, matte, smooth, write, all at the same time."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.inference.batcher import Matte
from service.media.video_types import AudioPacket, VideoFrame
from service.video.overlap import WriteBehind, read_ahead
from service.video.smoothing import (
    OneFrameDelay,
    OneFrameDelayState,
    is_scene_cut,
    make_thumbnail,
)

# Frames that wait between two stages: enough to smooth the speeds, few enough to stay small.
WAITING_FRAMES = 4

Tensor = NDArray[np.float32]


class SegmentStopped(Exception):
    """The segment was told to stop; nobody waits for its result."""


@dataclass(frozen=True)
class MattedFrame:
    """A frame with its own matte, (h, w) float32 at network size, smoothed if asked for."""

    frame: VideoFrame
    alpha: NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """How the frames of one segment are matted.

    `make_tensor` turns a picture into the network's input, `infer` hands it to the batcher.
    `ahead` frames are with the network at once. `ofd_threshold` None: no smoothing.
    """

    make_tensor: Callable[[NDArray[np.uint8]], Tensor]
    infer: Callable[[Tensor], Future[Matte]]
    ahead: int
    ofd_threshold: float | None


@dataclass(frozen=True)
class SegmentState:
    """What one piece of a clip hands to the next: the default is where a clip begins.

    `thumbnail` is that of the last frame; `frames` and `scene_cuts` came so far.
    """

    delay: OneFrameDelayState[VideoFrame] = OneFrameDelayState()
    thumbnail: NDArray[np.uint8] | None = None
    frames: int = 0
    scene_cuts: tuple[int, ...] = ()


def take_in(
    state: SegmentState, frame: VideoFrame, alpha: Tensor, ofd_threshold: float | None
) -> tuple[SegmentState, list[MattedFrame]]:
    """Take in the next frame and its raw matte; return the state after it, and what is ready.

    With smoothing that is the frame before, without (`ofd_threshold` None) the frame itself.
    """
    if ofd_threshold is None:
        return replace(state, frames=state.frames + 1), [MattedFrame(frame, alpha)]
    delay = OneFrameDelay(ofd_threshold, state.delay)
    thumbnail, cuts, ready = make_thumbnail(frame.image), state.scene_cuts, []
    if state.thumbnail is not None and is_scene_cut(state.thumbnail, thumbnail):
        cuts = (*cuts, state.frames)
        ready = delay.reset()
    ready += delay.push(alpha, frame)
    after = SegmentState(delay.state, thumbnail, state.frames + 1, cuts)
    return after, [MattedFrame(frame, alpha) for alpha, frame in ready]


@dataclass(frozen=True)
class SegmentReport:
    """What went through: frames, and where smoothing was reset (index of the first frame after)."""

    frames: int
    scene_cuts: tuple[int, ...]


def process_segment(
    items: Iterable[VideoFrame | AudioPacket],
    segment: Segment,
    write: Callable[[MattedFrame | AudioPacket], None],
    stop: threading.Event,
) -> SegmentReport:
    """Matte every frame of `items` and hand it to `write`, in order; sound passes through.

    Reading, the network and writing overlap, each in a thread, with a few frames between them, so
    memory does not depend on the length. Smoothing works on raw neighbours: cutting a clip into
    segments that share frames at the cut gives the same mattes. Raises SegmentStopped when `stop`
    is set, and whatever the source, the network or `write` raise.
    """
    state = process_piece(items, segment, write, stop, SegmentState(), is_last=True)
    return SegmentReport(state.frames, state.scene_cuts)


def process_piece(
    items: Iterable[VideoFrame | AudioPacket],
    segment: Segment,
    write: Callable[[MattedFrame | AudioPacket], None],
    stop: threading.Event,
    start: SegmentState,
    *,
    is_last: bool,
) -> SegmentState:
    """Do what `process_segment` does for one of the pieces that a clip comes in.

    `start` is what the piece before returned; pieces one after another give the frames of the whole
    clip. The delayed frame stays in the state, unless the piece `is_last`. Indexes of scene cuts
    count from the start of the clip.
    """
    with (
        closing(read_ahead(items, WAITING_FRAMES)) as source,
        WriteBehind(write, WAITING_FRAMES) as sink,
    ):
        run = _Run(segment, sink.put, start)
        try:
            for item in source:
                if stop.is_set():
                    raise SegmentStopped
                if isinstance(item, AudioPacket):
                    sink.put(item)
                else:
                    run.add(item)
            run.finish(is_last)
        finally:
            run.cancel()
    return run.state


class _Run:
    """The state of one segment between its frames."""

    def __init__(
        self, segment: Segment, emit: Callable[[MattedFrame], None], start: SegmentState
    ) -> None:
        self._segment = segment
        self._emit = emit
        self._pending: deque[tuple[VideoFrame, Future[Matte]]] = deque()
        self.state = start

    def add(self, frame: VideoFrame) -> None:
        segment = self._segment
        self._pending.append((frame, segment.infer(segment.make_tensor(frame.image))))
        if len(self._pending) >= segment.ahead:
            self._take_oldest()

    def finish(self, is_last: bool) -> None:
        while self._pending:
            self._take_oldest()
        if is_last and self.state.delay.pending is not None:
            alpha, frame = self.state.delay.pending
            self.state = replace(self.state, delay=OneFrameDelayState())
            self._emit(MattedFrame(frame, alpha))

    def cancel(self) -> None:
        for _, future in self._pending:
            future.cancel()

    def _take_oldest(self) -> None:
        frame, future = self._pending[0]
        alpha = future.result().alpha
        self._pending.popleft()
        self.state, ready = take_in(self.state, frame, alpha, self._segment.ofd_threshold)
        for item in ready:
            self._emit(item)
