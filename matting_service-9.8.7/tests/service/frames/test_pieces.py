"""A clip that comes in pieces gives what it gives in one."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.frames.report import MAX_LISTED
from service.frames.segment import (
    MattedFrame,
    Segment,
    SegmentState,
    process_piece,
    process_segment,
)
from service.media.video.types import VideoFrame
from tests.segments import FunctionNetwork


def make_frames(levels: list[int]) -> list[VideoFrame]:
    return [
        VideoFrame(index, 1, np.full((36, 64, 3), level, np.uint8))
        for index, level in enumerate(levels)
    ]


def see_brightness(tensor: np.ndarray) -> np.ndarray:
    """The matte is the picture's own red."""
    return tensor[0]


NETWORK = FunctionNetwork(
    lambda image: (np.float32(image[:4, :4]).transpose(2, 0, 1) / 255, image), see_brightness
)
SEGMENT = Segment(NETWORK, ofd_threshold=0.1)


def run_pieces(frames: list[VideoFrame], borders: list[int]):
    """Return the matted frames and the last state of a clip cut at `borders`."""
    written: list[MattedFrame] = []
    state, count = SegmentState(), 0
    edges = [0, *sorted(borders), len(frames)]
    for first, last in zip(edges, edges[1:], strict=False):
        piece = frames[first:last]
        state = process_piece(
            piece, SEGMENT, written.append, threading.Event(), state, is_last=False
        )
        count += len(piece)
        assert len(written) == max(count - 1, 0), "the delay is one frame at every border"
    state = process_piece([], SEGMENT, written.append, threading.Event(), state, is_last=True)
    return written, state


@given(
    levels=st.lists(st.sampled_from([0, 10, 20, 60, 255]), min_size=1, max_size=12),
    borders=st.lists(st.integers(0, 12), max_size=5),
)
def test_pieces_give_the_frames_of_the_whole(levels: list[int], borders: list[int]) -> None:
    frames = make_frames(levels)
    whole: list[MattedFrame] = []
    report = process_segment(frames, SEGMENT, whole.append, threading.Event())
    pieces, state = run_pieces(frames, [min(border, len(frames)) for border in borders])
    assert [item.frame for item in pieces] == frames == [item.frame for item in whole]
    assert all(
        np.array_equal(one.alpha, other.alpha) for one, other in zip(whole, pieces, strict=True)
    )
    assert state.scene_cuts == tuple(mark.frame for mark in report.scene_cuts)
    assert state.frames == report.frames == len(frames) and state.delay.pending is None


def test_failing_piece_leaves_the_state_before_as_it_was() -> None:
    frames = make_frames([10, 60, 10, 60])
    written: list[MattedFrame] = []
    before = process_piece(
        frames[:2], SEGMENT, written.append, threading.Event(), SegmentState(), is_last=False
    )
    kept = before.delay, before.thumbnail, before.frames

    def fail(item: object) -> None:
        raise OSError("no room")

    with pytest.raises(OSError):
        process_piece(frames[2:], SEGMENT, fail, threading.Event(), before, is_last=False)
    assert (before.delay, before.thumbnail, before.frames) == kept
    after = process_piece(
        frames[2:], SEGMENT, written.append, threading.Event(), before, is_last=False
    )
    assert [item.frame for item in written] == frames[:3] and after.frames == 4


def test_state_stays_small_however_many_scenes_there_are() -> None:
    frames = make_frames([0, 255] * (MAX_LISTED + 5))
    _, state = run_pieces(frames, [7, 50, 99])
    assert state.scene_cuts_total == len(frames) - 1
    assert state.scene_cuts == tuple(range(len(frames) - MAX_LISTED, len(frames)))
