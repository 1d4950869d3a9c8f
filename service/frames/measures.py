"""What the report needs of each frame: numbers of its mattes, and of the change before it."""

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.signals import measure_confidence, shows_person
from service.media.video.types import VideoFrame

Alpha = NDArray[np.float32]


@dataclass(frozen=True)
class FrameMeasures:
    """One frame in numbers; times in ticks of the clip, mattes are those at network size.

    `coverage`: mean alpha of the result, `confidence` see `measure_confidence`, both in [0, 1].
    `flicker`: the change since the frame before, of the network's mattes and of the result's, None
    at the start of a scene (see `measure_change`). `pixels` of the matte, and `pixels_smoothed` of
    them that smoothing changed.
    """

    pts: int
    duration: int | None
    starts_scene: bool
    coverage: float
    confidence: float
    shows_person: bool
    flicker: tuple[float, float] | None
    pixels: int
    pixels_smoothed: int


class FrameObserver(Protocol):
    """Who is told of each frame, in order, and of a new scene before its first frame."""

    def begin_scene(self) -> None: ...

    def add(self, frame: VideoFrame, raw: Alpha, smoothed: Alpha) -> None: ...


def measure_change(alpha: Alpha, following: Alpha) -> float:
    """Return 100 sqrt(mean over pixels of (a_t+1 - a_t)^2) of two mattes, (h, w) each.

    Its mean over time is dtSSD (Erofeev et al., "Perceptually Motivated Benchmark for Video
    Matting", BMVC 2015) against a label that stands still: it needs no true matte, and counts true
    motion too. Compare the raw and the smoothed mattes of a clip by it, not two clips.
    """
    return 100 * float(cv2.norm(alpha, following, cv2.NORM_L2)) / math.sqrt(alpha.size)


class FrameMeter:
    """Measures frames that come in order; holds the mattes of one, whatever came."""

    def __init__(self) -> None:
        self._starts_scene = False
        self._last_mattes: tuple[Alpha, Alpha] | None = None

    def begin_scene(self) -> None:
        """Say that the next frame is not of the scene of the frame before."""
        self._starts_scene = True

    def measure(self, frame: VideoFrame, raw: Alpha, smoothed: Alpha) -> FrameMeasures:
        """Take one frame: the network's matte and the result's, (h, w) float32 each."""
        starts_scene, self._starts_scene = self._starts_scene, False
        flicker = None
        if self._last_mattes is not None and not starts_scene:
            last_raw, last_smoothed = self._last_mattes
            flicker = measure_change(last_raw, raw), measure_change(last_smoothed, smoothed)
        self._last_mattes = raw, smoothed
        return FrameMeasures(
            frame.pts,
            frame.duration,
            starts_scene,
            coverage=float(smoothed.mean()),
            confidence=measure_confidence(smoothed),
            shows_person=shows_person(smoothed),
            flicker=flicker,
            pixels=raw.size,
            # What the rule repairs differs from its neighbours, so their mean is another value.
            pixels_smoothed=int(np.count_nonzero(raw != smoothed)),
        )


class MeasureList(FrameMeter):
    """Measures frames and keeps their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[FrameMeasures] = []

    def add(self, frame: VideoFrame, raw: Alpha, smoothed: Alpha) -> None:
        """Take one frame: the network's matte and the result's, (h, w) float32 each."""
        self.frames.append(self.measure(frame, raw, smoothed))
