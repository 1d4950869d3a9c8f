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
        # Of each run: time in ticks of its first frame, frames, and sums of the three values.
        self._points: list[list[float]] = []

    def add(self, pts: int, coverage: float, flicker_raw: float, flicker_smoothed: float) -> None:
        """Take one frame: coverage in [0, 1], flicker as `measure_change` has it."""
        values = [pts, 1, coverage, flicker_raw, flicker_smoothed]
        if self._points and self._points[-1][1] < self._frames_a_point:
            self._points[-1] = _join(self._points[-1], values)
            return
        if len(self._points) == MAX_POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_join(first, second) for first, second in pairs]
            self._frames_a_point *= 2
        self._points.append(values)

    def describe(self, info: VideoInfo) -> dict[str, Any]:
        """Return lists of one length for JSON; times in seconds of the written file."""
        return {
            "time_s": [
                round((pts - info.origin_pts) * float(info.time_base), 3)
                for pts, *_ in self._points
            ],
            "coverage": [round(point[2] / point[1], 4) for point in self._points],
            "flicker_raw": [round(point[3] / point[1], 3) for point in self._points],
            "flicker_smoothed": [round(point[4] / point[1], 3) for point in self._points],
        }


def _join(first: list[float], second: list[float]) -> list[float]:
    """Return the point of two neighbouring runs."""
    return [first[0], *(a + b for a, b in zip(first[1:], second[1:], strict=True))]
