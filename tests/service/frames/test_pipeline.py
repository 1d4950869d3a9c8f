"""What one-frame delay promises, on mattes of the real network over a real portrait in motion."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.frames.smoothing import OFD_THRESHOLD
from service.media.video.types import VideoFrame
from tests.clips import picture
from tests.segments import make_frames, run_network, run_segment
from training.evaluation import metrics

SIZE = 640, 512
FRAMES = 24
SPIKED = range(2, FRAMES - 1, 4)  # single frames, with two sound ones between them at least
XI = np.float32(OFD_THRESHOLD)


@pytest.fixture(scope="module")
def frames() -> list[VideoFrame]:
    """The portrait in a slow pan and zoom, as at 60 frames a second."""
    return make_frames([picture(index * 0.5, SIZE) for index in range(FRAMES)])


@pytest.fixture(scope="module")
def mattes(engine, frames: list[VideoFrame]) -> np.ndarray:
    """The network's mattes of the clip, (FRAMES, h, w) float32, not to be written to."""
    raw, _ = run_network(engine, frames, threshold=None)
    alphas = np.stack(raw)
    alphas.setflags(write=False)
    assert 0.2 < alphas.mean() < 0.8, "there is a person, and a wall"
    return alphas


def find_flicker(alphas: np.ndarray) -> np.ndarray:
    """Return where the rule holds, (n, h, w) bool, written down once more."""
    found = np.zeros(alphas.shape, bool)
    before, now, after = alphas[:-2], alphas[1:-1], alphas[2:]
    found[1:-1] = (abs(before - after) <= XI) & (abs(now - before) > XI) & (abs(now - after) > XI)
    return found


def draw_discs(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    discs = np.zeros(shape, np.uint8)
    for x, y in rng.integers(0, shape[::-1], (4, 2)).tolist():
        cv2.circle(discs, (x, y), shape[0] // 8, 1, -1)
    return discs > 0


def add_spikes(alphas: np.ndarray, kind: str) -> np.ndarray:
    """Return mattes that are wrong in the frames of SPIKED.

    `dropout`: nobody there; `discs`, `salt`: holes in the person and ghosts on the wall, as four
    discs or single pixels.
    """
    rng = np.random.default_rng(0)
    spiked = alphas.copy()
    for t in SPIKED:
        if kind == "dropout":
            spiked[t] = 0
            continue
        shape = alphas.shape[1:]
        where = draw_discs(shape, rng) if kind == "discs" else rng.random(shape) < 0.05
        spiked[t][where] = (alphas[t] <= 0.5)[where]
    return spiked


@pytest.mark.parametrize("kind", ["dropout", "discs", "salt"])
def test_one_frame_spikes_are_removed(frames, mattes: np.ndarray, kind: str) -> None:
    spiked = add_spikes(mattes, kind)
    is_wrong = abs(spiked - mattes) > XI
    assert is_wrong.sum() > 2000
    smoothed, report = run_segment(frames, spiked)
    error = abs(np.stack(smoothed) - mattes)[is_wrong]
    assert (error <= 0.02).mean() >= 0.95
    assert report.flicker_smoothed < report.flicker_raw / 3
    assert metrics.dtssd(smoothed, mattes) < metrics.dtssd(spiked, mattes) / 4


def test_clean_clip_changes_only_where_the_rule_says(engine, frames, mattes: np.ndarray) -> None:
    smoothed, report = run_network(engine, frames)
    alphas, flickers = np.stack(smoothed), find_flicker(mattes)
    assert np.array_equal(alphas[~flickers], mattes[~flickers]), "not by one bit"
    assert report.pixels_smoothed == flickers.sum() < 0.002 * report.pixels
    assert report.flicker_smoothed <= report.flicker_raw


def test_still_clip_is_unchanged(engine, frames, mattes: np.ndarray) -> None:
    smoothed, report = run_network(engine, make_frames([frames[0].image] * 5))
    assert all(np.array_equal(alpha, mattes[0]) for alpha in smoothed)
    assert report.pixels_smoothed == 0 == report.flicker_smoothed


def make_two_scenes(frames: Sequence[VideoFrame]) -> list[VideoFrame]:
    """Return seven frames of the clip and seven of its negative."""
    images = [frame.image for frame in frames[:14]]
    return make_frames([image if t < 7 else 255 - image for t, image in enumerate(images)])


@pytest.mark.parametrize("beside", [6, 7])
def test_scene_cut_leaves_both_sides_unsmoothed(frames, mattes: np.ndarray, beside: int) -> None:
    spiked = mattes[:14].copy()
    spiked[[3, beside, 10]] = 0
    one_scene, report = run_segment(frames[:14], spiked)
    assert report.scene_cuts == ()
    two_scenes, report = run_segment(make_two_scenes(frames), spiked)
    assert [mark.frame for mark in report.scene_cuts] == [7]
    for t in (3, 10):
        assert abs(one_scene[t] - mattes[t]).mean() < 0.02 > abs(two_scenes[t] - mattes[t]).mean()
    assert abs(one_scene[beside] - mattes[beside]).mean() < 0.02
    for t in (6, 7):
        assert np.array_equal(two_scenes[t], spiked[t]), "a cut is on one side of it"


@pytest.fixture(scope="module")
def whole(engine, frames) -> list[np.ndarray]:
    smoothed, report = run_network(engine, make_two_scenes(frames))
    assert report.pixels_smoothed > 0 and len(report.scene_cuts) == 1
    return smoothed


@settings(max_examples=12)
@given(borders=st.sets(st.integers(1, 13), min_size=1, max_size=4))
def test_segments_that_overlap_by_one_frame_give_the_whole(engine, frames, whole, borders) -> None:
    clip = make_two_scenes(frames)
    for start, end in pairwise([0, *sorted(borders), len(clip)]):
        first = max(start - 1, 0)
        part, _ = run_network(engine, clip[first : end + 1])
        for alpha, expected in zip(
            part[start - first : end - first], whole[start:end], strict=True
        ):
            assert np.array_equal(alpha, expected), "bit for bit"
