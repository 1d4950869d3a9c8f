"""A report's values over time, on numbers that are known."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from service.frames.timeline import MAX_POINTS, Timeline

INFO = SimpleNamespace(origin_pts=50, time_base=Fraction(1, 25))


def describe(frames: int) -> dict:
    timeline = Timeline()
    for index in range(frames):
        timeline.add(50 + index, index / frames, (index, index / 2) if index else None)
    return timeline.describe(INFO)


def test_each_frame_of_a_short_clip_is_a_point() -> None:
    described = describe(3)
    assert described == {
        "time_s": [0, 0.04, 0.08],
        "coverage": [0, 0.3333, 0.6667],
        "flicker_raw": [None, 1, 2],
        "flicker_smoothed": [None, 0.5, 1],
    }


@pytest.mark.parametrize("frames", [0, MAX_POINTS, MAX_POINTS + 1, 10_007])
def test_points_are_means_of_equal_runs_and_never_too_many(frames: int) -> None:
    described = describe(frames)
    count = len(described["time_s"])
    assert all(len(values) == count for values in described.values())
    assert min(frames, MAX_POINTS // 2) <= count <= MAX_POINTS
    size = 1 if count < 2 else round((described["time_s"][1] - described["time_s"][0]) * 25)
    runs = [np.arange(frames)[start : start + size] for start in range(0, frames, size)]
    coverage = [run.mean() / frames for run in runs]
    assert described["coverage"] == pytest.approx(coverage, abs=1e-4)
