"""The report of a clip, on mattes whose numbers are known."""

import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.frames.report import MAX_LISTED, Facts, ReportWriter, find_suspicion
from service.frames.smoothing import OFD_THRESHOLD
from service.media.video.reader import read_video
from service.media.video.types import VideoFrame, VideoInfo, VideoLimits
from tests.clips import make_clip
from tests.segments import make_frames, run_segment
from training.evaluation import metrics

DARK, GREY, WHITE = (np.full((36, 64, 3), value, np.uint8) for value in (32, 128, 255))


def flat(*values: float) -> list[np.ndarray]:
    return [np.full((4, 5), value, np.float32) for value in values]


@pytest.fixture(scope="module")
def late_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoInfo, list[VideoFrame]]:
    """A clip whose own clock starts at seven seconds: 25 frames a second, 20 of them."""
    path = tmp_path_factory.mktemp("clip") / "late.ts"
    make_clip(path, seconds=0.8, fps=25, size=(64, 48), start_s=7, tone=False)
    with path.open("rb") as file:
        info, *frames, _ = read_video(file, VideoLimits(100, 10, 1, 100))
    return info, frames


alphas_of_clips = hnp.arrays(np.float32, (6, 3, 4), elements=st.floats(0, 1, width=32))


@given(alphas_of_clips)
def test_flicker_is_dtssd_against_a_label_that_stands_still(alphas) -> None:
    smoothed, report = run_segment(make_frames([GREY] * 6), alphas)
    still = np.zeros_like(alphas)
    assert report.flicker_raw == pytest.approx(metrics.dtssd(alphas, still), abs=1e-4)
    assert report.flicker_smoothed == pytest.approx(metrics.dtssd(smoothed, still), abs=1e-4)
    assert report.mean_coverage == pytest.approx(np.mean(smoothed), abs=1e-5)


@given(alphas_of_clips)
def test_smoothed_pixels_are_those_the_rule_repairs(alphas) -> None:
    _, report = run_segment(make_frames([GREY] * 6), alphas)
    xi = np.float32(OFD_THRESHOLD)
    before, now, after = alphas[:-2], alphas[1:-1], alphas[2:]
    repaired = (abs(before - after) <= xi) & (abs(now - before) > xi) & (abs(now - after) > xi)
    assert report.pixels == alphas.size
    assert report.pixels_smoothed == repaired.sum()


def test_change_over_a_scene_cut_is_no_flicker() -> None:
    alphas = [(np.arange(20) < count).astype(np.float32).reshape(4, 5) for count in (8, 9, 16, 17)]
    _, report = run_segment(make_frames([DARK, DARK, WHITE, WHITE]), alphas)
    assert [mark.frame for mark in report.scene_cuts] == [2]
    assert report.flicker_raw == pytest.approx(100 * np.sqrt(1 / 20), rel=1e-5)
    assert report.flagged_frames_total == 0, "a cut explains the jump"


def test_scene_cuts_are_listed_without_smoothing() -> None:
    frames = make_frames([DARK] * 3 + [WHITE] * 3)
    alphas = flat(0, 0.9, 0, 0, 0.9, 0)
    smoothed, report = run_segment(frames, alphas, threshold=None)
    assert np.array_equal(smoothed, alphas)
    assert [mark.frame for mark in report.scene_cuts] == [3]
    assert report.pixels_smoothed == 0 and report.pixels == 6 * 20
    assert report.flicker_smoothed == report.flicker_raw == pytest.approx(90, rel=1e-5)


def test_times_are_those_of_the_written_file(late_clip) -> None:
    info, frames = late_clip
    dark = [replace(frame, picture=frame.image * 0) for frame in frames[:5]]
    bright = [replace(frame, picture=frame.image * 0 + 255) for frame in frames[5:]]
    alphas = flat(*[0.95] * 10, 0, *[0.95] * 9)
    _, report = run_segment([*dark, *bright], alphas, threshold=None)
    described = report.describe(info)
    assert described["scene_cuts"] == [{"frame": 5, "time_s": 0.2}]
    assert described["suspicious"][0] == {"frame": 10, "time_s": 0.4, "reason": "empty"}
    assert described["duration_s"] == pytest.approx(0.8, abs=0.002)
    assert json.loads(json.dumps(described)) == described


def test_smoothing_takes_away_what_was_suspicious() -> None:
    frames, alphas = make_frames([GREY] * 5), flat(0.95, 0.95, 0, 0.95, 0.95)
    _, raw = run_segment(frames, alphas, threshold=None)
    _, smoothed = run_segment(frames, alphas)
    assert [(mark.frame, mark.reason) for mark in raw.flagged_frames] == [(2, "empty"), (3, "jump")]
    assert smoothed.flagged_frames_total == 0 and smoothed.pixels_smoothed == 20


def facts(coverage: float, confidence: float = 1, shows_person: bool = True) -> Facts:
    return Facts(0, 0, coverage, confidence, shows_person)


@pytest.mark.parametrize(
    ("before", "frame", "after", "reason"),
    [
        (facts(0.3), facts(0.3), facts(0.3), None),
        (facts(0.3), facts(0, shows_person=False), facts(0.3), "empty"),
        (facts(0.05), facts(0, shows_person=False), facts(0, shows_person=False), None),
        (None, facts(0, shows_person=False), facts(0.3), None),
        (facts(0.3), facts(0.41), facts(0.41), "jump"),
        (facts(0.3), facts(0.39), facts(0.41), None),
        (None, facts(0.41), None, None),
        (facts(0.3), facts(0.3, confidence=0.7), None, "unsure"),
        (facts(0.3), facts(0.3, confidence=0.81), None, None),
    ],
)
def test_suspicion_of_a_frame_between_its_neighbours(before, frame, after, reason) -> None:
    assert find_suspicion(before, frame, after) == reason


def test_report_stays_small_when_every_frame_is_strange(late_clip) -> None:
    info, _ = late_clip
    count = 3 * MAX_LISTED
    frames = make_frames([WHITE, DARK] * (count // 2))
    _, report = run_segment(frames, flat(0.5) * count)
    described = report.describe(info)
    assert described["scene_cuts_total"] == len(report.scene_cuts) == count - 1
    assert described["suspicious_total"] == count
    assert len(described["scene_cuts"]) == len(described["suspicious"]) == MAX_LISTED
    assert len(json.dumps(described)) < 20_000


def test_writer_holds_the_mattes_of_one_frame() -> None:
    writer, mattes = ReportWriter(), []
    for pts in range(6):
        alpha = np.full((4, 5), pts / 10, np.float32)
        mattes.append(weakref.ref(alpha))
        writer.add(VideoFrame(pts, 1, GREY), alpha, alpha)
    del alpha
    assert [matte() is not None for matte in mattes] == [False] * 5 + [True]
    assert writer.finish().frames == 6


def test_no_frames_give_an_empty_report(late_clip) -> None:
    described = ReportWriter().finish().describe(late_clip[0])
    assert described["frames"] == described["flicker_raw"] == described["mean_coverage"] == 0
