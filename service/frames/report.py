"""The report of a clip: coverage, flicker, scene cuts and frames flagged for review."""

from dataclasses import dataclass
from typing import Any

from service.frames.measures import Alpha, FrameMeasures, FrameMeter
from service.frames.timeline import Timeline
from service.media.video.types import VideoFrame, VideoInfo

COVERAGE_JUMP = 0.1  # of the picture: more than a person who moves gains or loses in one frame
LOW_CONFIDENCE = 0.8  # frames of portraits have 0.94 and more, badly damaged ones less than this
MAX_LISTED = 100  # of each kind, so that a report stays small whatever the clip


@dataclass(frozen=True)
class Mark:
    """A frame flagged for review: its number from 0, its time in ticks of the clip, and why."""

    frame: int
    pts: int
    reason: str | None = None

    def describe(self, info: VideoInfo) -> dict[str, Any]:
        """Return members for JSON; `time_s` is the frame's time in the written file."""
        members = {"frame": self.frame, "time_s": to_seconds(self.pts, info)}
        return members if self.reason is None else members | {"reason": self.reason}


@dataclass(frozen=True)
class SegmentReport:
    """What went through; mattes are those at network size.

    `end_pts`: when the last frame ends, ticks of the clip. `mean_coverage`: mean alpha of the
    result, in [0, 1]. `flicker_raw`, `flicker_smoothed`: see `measure_change`, the mean over
    neighbours of one scene, of the network's mattes and of the result's. `pixels` of all mattes,
    and `pixels_smoothed` of them that smoothing changed. `scene_cuts`: the first frame of each new
    scene, where smoothing began anew. `flagged_frames`: the first MAX_LISTED of
    `flagged_frames_total`. `timeline`: coverage and flicker over time.
    """

    frames: int
    scene_cuts: tuple[Mark, ...]
    end_pts: int
    mean_coverage: float
    flicker_raw: float
    flicker_smoothed: float
    pixels: int
    pixels_smoothed: int
    flagged_frames: tuple[Mark, ...]
    flagged_frames_total: int
    timeline: Timeline

    def describe(self, info: VideoInfo) -> dict[str, Any]:
        """Return the report for JSON, of bounded size; times are those of the written file."""
        return {
            "frames": self.frames,
            "duration_s": to_seconds(self.end_pts, info),
            "mean_coverage": round(self.mean_coverage, 4),
            "flicker_raw": round(self.flicker_raw, 3),
            "flicker_smoothed": round(self.flicker_smoothed, 3),
            "pixels": self.pixels,
            "pixels_smoothed": self.pixels_smoothed,
            "scene_cuts_total": len(self.scene_cuts),
            "scene_cuts": [mark.describe(info) for mark in self.scene_cuts[:MAX_LISTED]],
            "suspicious_total": self.flagged_frames_total,
            "suspicious": [mark.describe(info) for mark in self.flagged_frames],
            "timeline": self.timeline.describe(info),
        }


def to_seconds(pts: int, info: VideoInfo) -> float:
    """Return a time of the clip, in ticks, as seconds in the written file."""
    return round(float((pts - info.origin_pts) * info.time_base), 3)


@dataclass(frozen=True)
class Facts:
    """What a suspicion is judged by: the matte of one frame in numbers."""

    frame: int
    pts: int
    coverage: float
    confidence: float
    shows_person: bool


def find_suspicion(before: Facts | None, facts: Facts, after: Facts | None) -> str | None:
    """Return why a frame is flagged for review, None if it does not.

    `before` and `after` are its neighbours in the same scene, None at its ends. `empty`: nobody,
    between two frames with somebody. `jump`: coverage differs from the frame before by more than
    COVERAGE_JUMP. `unsure`: the matte's confidence is below LOW_CONFIDENCE.
    """
    neighbours_show = before and after and before.shows_person and after.shows_person
    if neighbours_show and not facts.shows_person:
        return "empty"
    if before and abs(facts.coverage - before.coverage) > COVERAGE_JUMP:
        return "jump"
    return "unsure" if facts.confidence < LOW_CONFIDENCE else None


class ReportWriter:
    """Makes the report from frames that come in order; holds the mattes of one, whatever came."""

    def __init__(self) -> None:
        self._meter = FrameMeter()
        self._frames = 0
        self._coverage = 0.0
        self._changes_raw, self._changes_smoothed, self._pairs = 0.0, 0.0, 0
        self._pixels, self._pixels_smoothed = 0, 0
        self._timeline = Timeline()
        self._last_pts: int | None = None
        self._end_pts = 0
        self._before: Facts | None = None
        self._waiting: Facts | None = None
        self._scene_cuts: list[Mark] = []
        self._suspicious: list[Mark] = []
        self._flagged_frames_total = 0

    def begin_scene(self) -> None:
        """Say that the next frame is not of the scene of the frame before."""
        self._meter.begin_scene()

    def add(self, frame: VideoFrame, raw: Alpha, smoothed: Alpha) -> None:
        """Take one frame: the network's matte and the result's, (h, w) float32 each."""
        self.add_measured(self._meter.measure(frame, raw, smoothed))

    def add_measured(self, frame: FrameMeasures) -> None:
        """Take one frame that was measured before, perhaps on another machine."""
        if frame.starts_scene:
            self._scene_cuts.append(Mark(self._frames, frame.pts))
        if frame.flicker is not None:
            self._changes_raw += frame.flicker[0]
            self._changes_smoothed += frame.flicker[1]
            self._pairs += 1
        self._pixels += frame.pixels
        self._pixels_smoothed += frame.pixels_smoothed
        self._coverage += frame.coverage
        self._timeline.add(frame.pts, frame.coverage, frame.flicker)
        facts = Facts(self._frames, frame.pts, frame.coverage, frame.confidence, frame.shows_person)
        self._judge_waiting(None if frame.starts_scene else facts)
        self._before = None if frame.starts_scene else self._waiting
        self._waiting = facts
        gap = 0 if self._last_pts is None else frame.pts - self._last_pts
        self._end_pts = frame.pts + (frame.duration or gap)
        self._last_pts = frame.pts
        self._frames += 1

    def finish(self) -> SegmentReport:
        """Return the report; nothing may be added any more."""
        self._judge_waiting(None)
        return SegmentReport(
            frames=self._frames,
            scene_cuts=tuple(self._scene_cuts),
            end_pts=self._end_pts,
            mean_coverage=self._coverage / max(self._frames, 1),
            flicker_raw=self._changes_raw / max(self._pairs, 1),
            flicker_smoothed=self._changes_smoothed / max(self._pairs, 1),
            pixels=self._pixels,
            pixels_smoothed=self._pixels_smoothed,
            flagged_frames=tuple(self._suspicious),
            flagged_frames_total=self._flagged_frames_total,
            timeline=self._timeline,
        )

    def _judge_waiting(self, after: Facts | None) -> None:
        if self._waiting is None:
            return
        reason = find_suspicion(self._before, self._waiting, after)
        if reason is None:
            return
        self._flagged_frames_total += 1
        if len(self._suspicious) < MAX_LISTED:
            self._suspicious.append(Mark(self._waiting.frame, self._waiting.pts, reason))
