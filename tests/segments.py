"""Frames through `process_segment`, with the mattes of the real network or given ones."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from service.frames.report import SegmentReport
from service.frames.segment import MattedFrame, Segment, process_segment
from service.frames.smoothing import OFD_THRESHOLD
from service.inference.batcher import Matte
from service.inference.engine import Engine, State
from service.inference.preprocessing import prepare_input
from service.media.video.types import VideoFrame

REF_SIZE = 128  # of the real network in tests: some 25 ms a frame


@dataclass(frozen=True)
class FunctionNetwork:
    """A network of two functions: a picture's input and its picture, and an input's matte."""

    make_input: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    run: Callable[[np.ndarray], np.ndarray]
    ahead: int = 2

    def prepare(self, picture: np.ndarray, pixel_shape: float = 1) -> tuple[np.ndarray, np.ndarray]:
        assert pixel_shape == 1
        return self.make_input(picture)

    def infer(self, tensor: np.ndarray, state: State) -> Future[Matte]:
        future: Future[Matte] = Future()
        future.set_result(Matte(self.run(tensor)))
        return future


def make_frames(images: Sequence[np.ndarray]) -> list[VideoFrame]:
    """Return frames of one tick each."""
    return [VideoFrame(pts, 1, image) for pts, image in enumerate(images)]


def run_segment(
    frames: Sequence[VideoFrame],
    alphas: Iterable[np.ndarray],
    threshold: float | None = OFD_THRESHOLD,
) -> tuple[list[np.ndarray], SegmentReport]:
    """Return the mattes that come out when the network answers with `alphas`, one a frame."""
    answers = iter(alphas)
    return process(frames, lambda image: (image, image), lambda tensor: next(answers), threshold)


def run_network(
    engine: Engine, frames: Sequence[VideoFrame], threshold: float | None = OFD_THRESHOLD
) -> tuple[list[np.ndarray], SegmentReport]:
    """Return the mattes of the engine at REF_SIZE."""

    def prepare(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return prepare_input(image, engine.info, REF_SIZE, max_megapixels=1.5)

    return process(frames, prepare, lambda tensor: engine.run(tensor[np.newaxis])[0], threshold)


def process(
    frames: Sequence[VideoFrame],
    prepare: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    infer: Callable[[np.ndarray], np.ndarray],
    threshold: float | None,
) -> tuple[list[np.ndarray], SegmentReport]:
    out: list[MattedFrame] = []
    segment = Segment(FunctionNetwork(prepare, infer), threshold)
    report = process_segment(iter(frames), segment, out.append, threading.Event())
    assert [item.frame.pts for item in out] == [frame.pts for frame in frames]
    return [item.alpha for item in out], report
