"""A report's values over time: as many points as a chart shows, whatever the clip's length."""

from typing import Any

from service.media.video.types import VideoInfo

MAX_POINTS = 240


class Timeline:
    """Means of coverage and flicker over equal runs of frames, at most MAX_POINTS of them.

    When they are full, neighbours are joined and runs become twice as long.
    """

    def __init__(self) -> None:
        self._frames_a_point = 1
        # Of each run: time in ticks of its first frame, frames, their coverage in sum, pairs of
        # neighbours in one scene, and their flicker in sum.
        self._points: list[list[float]] = []

    def add(self, pts: int, coverage: float, flicker: tuple[float, float] | None) -> None:
        """Take one frame: coverage in [0, 1]; raw and smoothed flicker as `measure_change` has it.

        The first frame of a scene has no flicker.
        """
        values = [pts, 1, coverage, *((0, 0, 0) if flicker is None else (1, *flicker))]
        if self._points and self._points[-1][1] < self._frames_a_point:
            self._points[-1] = _join(self._points[-1], values)
            return
        if len(self._points) == MAX_POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_join(first, second) for first, second in pairs]
            self._frames_a_point *= 2
        self._points.append(values)

    def describe(self, info: VideoInfo) -> dict[str, Any]:
        """Return lists of one length for JSON; times in seconds of the written file.

        Flicker is None where no two neighbours are of one scene.
        """
        tick_s = float(info.time_base)
        return {
            "time_s": [round((point[0] - info.origin_pts) * tick_s, 3) for point in self._points],
            "coverage": [round(point[2] / point[1], 4) for point in self._points],
            "flicker_raw": [_mean(point[4], point[3]) for point in self._points],
            "flicker_smoothed": [_mean(point[5], point[3]) for point in self._points],
        }


def _mean(total: float, count: float) -> float | None:
    return round(total / count, 3) if count else None


def _join(first: list[float], second: list[float]) -> list[float]:
    """Return the point of two neighbouring runs."""
    return [first[0], *(a + b for a, b in zip(first[1:], second[1:], strict=True))]
