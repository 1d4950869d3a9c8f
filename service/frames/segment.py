"""Matte the frames of one segment: read, infer, smooth and write, overlapped."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from service.frames.measures import FrameMeasures, FrameObserver, MeasureList
from service.frames.network import Network
from service.frames.overlap import WriteBehind, read_ahead
from service.frames.report import MAX_LISTED, ReportWriter, SegmentReport
from service.frames.smoothing import (
    OneFrameDelay,
    OneFrameDelayState,
    is_scene_cut,
    make_thumbnail,
)
from service.inference.batcher import Matte
from service.inference.engine import State
from service.media.audio.types import AudioPacket
from service.media.video.types import Image, VideoFrame

# Frames that wait between two stages: enough to smooth the speeds, few enough to stay small.
WAITING_FRAMES = 4


class SegmentStopped(Exception):
    """The segment was told to stop; nobody waits for its result."""


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame and its picture at network size, (h, w, 3) uint8 RGB, as the network sees it."""

    frame: VideoFrame
    network_image: Image


@dataclass(frozen=True, eq=False)
class MattedFrame(PreparedFrame):
    """A frame with its own matte, (h, w) float32 at network size, smoothed if asked for."""

    alpha: NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """How the frames of one segment are matted; `ofd_threshold` None: no smoothing.

    `returns_alpha`: the clip's own alpha is the matte of frames that have it, without the network.
    `pixel_shape`: how wide a pixel of the frames is for its height.
    """

    network: Network
    ofd_threshold: float | None
    returns_alpha: bool = False
    pixel_shape: float = 1


@dataclass(frozen=True)
class SegmentState:
    """What one piece of a clip hands to the next: the default is where a clip begins.

    `thumbnail` is that of the last frame, `network` the state of a recurrent network after it;
    `frames` and `scene_cuts_total` came so far; `scene_cuts` are the first frames of the newest
    MAX_LISTED scenes.
    """

    delay: OneFrameDelayState[PreparedFrame] = OneFrameDelayState()
    thumbnail: NDArray[np.uint8] | None = None
    frames: int = 0
    scene_cuts: tuple[int, ...] = ()
    scene_cuts_total: int = 0
    network: State = ()


def process_segment(
    items: Iterable[VideoFrame | AudioPacket],
    segment: Segment,
    write: Callable[[MattedFrame | AudioPacket], None],
    stop: threading.Event,
) -> SegmentReport:
    """Matte every frame of `items` and hand it to `write`, in order; audio passes through.

    Reading, the network and writing overlap, each in a thread, with a few frames between them, so
    memory does not depend on the length. Smoothing works on raw neighbours: cutting a clip into
    segments that share frames at the cut gives the same mattes. Raises SegmentStopped when `stop`
    is set, and whatever the source, the network or `write` raise.
    """
    report = ReportWriter()
    _process(items, segment, write, stop, SegmentState(), report, is_last=True)
    return report.finish()


def measure_segment(
    items: Iterable[VideoFrame],
    segment: Segment,
    write: Callable[[MattedFrame], None],
    stop: threading.Event,
) -> list[FrameMeasures]:
    """Do what `process_segment` does, and return what the report needs of each frame.

    Frames get the mattes and numbers that they have in the whole clip, but for those at the ends,
    which lack a neighbour: the first two and the last one, unless the clip begins or ends there.
    """
    measures = MeasureList()

    def write_frame(item: MattedFrame | AudioPacket) -> None:
        assert isinstance(item, MattedFrame)
        write(item)

    _process(items, segment, write_frame, stop, SegmentState(), measures, is_last=True)
    return measures.frames


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
    clip. The delayed frame stays in the state, unless the piece `is_last`. There is no report, but
    the state has the numbers of the frames that begin scenes, counted from the start of the clip.
    """
    return _process(items, segment, write, stop, start, None, is_last=is_last)


def _process(
    items: Iterable[VideoFrame | AudioPacket],
    segment: Segment,
    write: Callable[[MattedFrame | AudioPacket], None],
    stop: threading.Event,
    start: SegmentState,
    report: FrameObserver | None,
    *,
    is_last: bool,
) -> SegmentState:
    with (
        closing(read_ahead(items, WAITING_FRAMES)) as source,
        WriteBehind(write, WAITING_FRAMES) as sink,
    ):
        run = _Run(segment, sink.put, start, report)
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
        self,
        segment: Segment,
        emit: Callable[[MattedFrame], None],
        start: SegmentState,
        report: FrameObserver | None,
    ) -> None:
        self._segment = segment
        self._pending: deque[tuple[PreparedFrame, Future[Matte]]] = deque()
        self._smoother = Smoother(segment.ofd_threshold, start, emit, report)
        self._network_state = start.network

    @property
    def state(self) -> SegmentState:
        return replace(self._smoother.state, network=self._network_state)

    def add(self, frame: VideoFrame) -> None:
        segment = self._segment
        tensor, network_image = segment.network.prepare(
            frame.planes or frame.flat, segment.pixel_shape
        )
        prepared = PreparedFrame(frame, network_image)
        if segment.returns_alpha and frame.alpha is not None:
            matte = _take_own_alpha(frame.alpha, network_image, self._network_state)
        else:
            matte = segment.network.infer(tensor, self._network_state)
        self._pending.append((prepared, matte))
        if len(self._pending) >= segment.network.ahead:
            self._take_oldest()

    def finish(self, is_last: bool) -> None:
        while self._pending:
            self._take_oldest()
        if is_last:
            self._smoother.finish()

    def cancel(self) -> None:
        for _, future in self._pending:
            future.cancel()

    def _take_oldest(self) -> None:
        frame, future = self._pending[0]
        matte = future.result()
        self._pending.popleft()
        self._network_state = matte.state
        self._smoother.add(frame, matte.alpha)


def _take_own_alpha(alpha: Image, network_image: Image, state: State) -> Future[Matte]:
    """Return the clip's own alpha, (H, W) uint8, as if the network had said it."""
    height, width = network_image.shape[:2]
    small = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
    future: Future[Matte] = Future()
    own = small.astype(np.float32) / np.float32(255)
    future.set_result(Matte(own, state=state))
    return future


class Smoother:
    """Frames with raw mattes in, with smoothed ones out, to `emit`; `state` is how far it came.

    `start` is the state of the piece before. Without smoothing (`ofd_threshold` None) frames come
    out at once.
    """

    def __init__(
        self,
        ofd_threshold: float | None,
        start: SegmentState,
        emit: Callable[[MattedFrame], None],
        report: FrameObserver | None = None,
    ) -> None:
        self._emit = emit
        self._report = report
        self._previous = start.thumbnail
        self._delay: OneFrameDelay[PreparedFrame] | None = None
        if ofd_threshold is not None:
            self._delay = OneFrameDelay(ofd_threshold, start.delay)
        self._frames = start.frames
        self._scene_cuts = start.scene_cuts
        self._scene_cuts_total = start.scene_cuts_total

    @property
    def state(self) -> SegmentState:
        delay = self._delay.state if self._delay is not None else OneFrameDelayState()
        cuts = self._scene_cuts, self._scene_cuts_total
        return SegmentState(delay, self._previous, self._frames, *cuts)

    def add(self, frame: PreparedFrame, alpha: NDArray[np.float32]) -> None:
        thumbnail = make_thumbnail(frame.network_image)
        if self._previous is not None and is_scene_cut(self._previous, thumbnail):
            if self._delay is not None:
                self._send_raw(self._delay.reset())
            if self._report is not None:
                self._report.begin_scene()
            self._scene_cuts = (*self._scene_cuts, self._frames)[-MAX_LISTED:]
            self._scene_cuts_total += 1
        self._previous = thumbnail
        self._frames += 1
        if self._delay is None:
            self._send(frame, alpha, alpha)
            return
        waiting = self._delay.state.pending
        for smoothed, delayed in self._delay.push(alpha, frame):
            assert waiting is not None
            self._send(delayed, waiting[0], smoothed)

    def finish(self) -> None:
        """Send the frame that waits for its follower."""
        if self._delay is not None:
            self._send_raw(self._delay.flush())

    def _send_raw(self, ready: list[tuple[NDArray[np.float32], PreparedFrame]]) -> None:
        for alpha, frame in ready:
            self._send(frame, alpha, alpha)

    def _send(
        self, frame: PreparedFrame, raw: NDArray[np.float32], smoothed: NDArray[np.float32]
    ) -> None:
        if self._report is not None:
            self._report.add(frame.frame, raw, smoothed)
        self._emit(MattedFrame(frame.frame, frame.network_image, smoothed))
