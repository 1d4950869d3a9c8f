import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.frames.smoothing import (
    OneFrameDelay,
    is_scene_cut,
    make_thumbnail,
    smooth_frame,
)

# Values near the threshold's edges as often as anywhere.
VALUES = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([np.float32(n / 20) for n in range(21)]),
)


def clips(count: int):
    return hnp.arrays(np.float32, (count, 2, 3), elements=VALUES)


def reference_pixel(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    xi = np.float32(0.1)
    if abs(a - c) <= xi and abs(b - a) > xi and abs(b - c) > xi:
        return (a + c) / np.float32(2)
    return b


def smooth_clip(alphas, cuts: frozenset[int] = frozenset()) -> list[np.ndarray]:
    delay: OneFrameDelay[int] = OneFrameDelay()
    out = []
    for index, alpha in enumerate(alphas):
        if index in cuts:
            out += delay.reset()
        out += delay.push(alpha, index)
    out += delay.flush()
    assert [item for _, item in out] == list(range(len(alphas)))
    return [alpha for alpha, _ in out]


@given(clips(3))
def test_smooth_frame_is_the_rule_pixel_by_pixel(alphas):
    got = smooth_frame(*alphas)
    assert got.dtype == np.float32
    for index in np.ndindex(*got.shape):
        assert got[index] == reference_pixel(*(alpha[index] for alpha in alphas))


def test_one_frame_spike_is_repaired_and_two_frame_spike_is_not():
    low, high = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    assert smooth_frame(low, high, low).item() == 0
    assert smooth_frame(low, high, high).item() == 1


@given(clips(6))
def test_clip_keeps_first_and_last_and_smooths_on_raw_neighbours(alphas):
    out = smooth_clip(alphas)
    assert np.array_equal(out[0], alphas[0])
    assert np.array_equal(out[-1], alphas[-1])
    for t in range(1, 5):
        assert np.array_equal(out[t], smooth_frame(*alphas[t - 1 : t + 2]))


@settings(max_examples=60)
@given(clips(7), st.sets(st.integers(1, 6)))
def test_segments_that_overlap_by_one_give_the_whole(alphas, borders):
    whole = smooth_clip(alphas)
    starts = [0, *sorted(borders)]
    for start, end in zip(starts, [*starts[1:], len(alphas)], strict=True):
        first = max(start - 1, 0)
        part = smooth_clip(alphas[first : end + 1])
        assert np.array_equal(part[start - first : end - first], whole[start:end])


@given(clips(7), st.integers(1, 6))
def test_state_carried_to_another_object_changes_nothing(alphas, border):
    delay: OneFrameDelay[int] = OneFrameDelay()
    out = [pair for t in range(border) for pair in delay.push(alphas[t], t)]
    delay = OneFrameDelay(state=delay.state)
    out += [pair for t in range(border, 7) for pair in delay.push(alphas[t], t)]
    out += delay.flush()
    assert np.array_equal(np.stack([alpha for alpha, _ in out]), smooth_clip(alphas))


@given(clips(7), st.sets(st.integers(1, 6)))
def test_scene_cut_splits_the_clip_into_separate_ones(alphas, cuts):
    starts = [0, *sorted(cuts)]
    expected = []
    for start, end in zip(starts, [*starts[1:], 7], strict=True):
        expected += smooth_clip(alphas[start:end])
    assert np.array_equal(np.stack(smooth_clip(alphas, frozenset(cuts))), np.stack(expected))


def test_delay_is_one_frame_also_after_a_cut():
    delay: OneFrameDelay[str] = OneFrameDelay()
    alpha = np.zeros((2, 2), np.float32)
    assert delay.push(alpha, "a") == []
    assert [item for _, item in delay.reset() + delay.push(alpha, "b")] == ["a"]
    assert [item for _, item in delay.flush()] == ["b"]
    assert delay.flush() == []


@pytest.mark.parametrize(
    "alpha",
    [np.zeros((3, 2), np.float32), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 1), np.float32)],
)
def test_push_refuses_another_shape_or_type_and_keeps_its_state(alpha):
    delay: OneFrameDelay[int] = OneFrameDelay()
    delay.push(np.zeros((2, 2), np.float32), 0)
    state = delay.state
    with pytest.raises(ValueError, match="matte"):
        delay.push(alpha, 1)
    assert delay.state is state


def test_scene_cut_is_a_mean_difference_above_a_quarter():
    dark = make_thumbnail(np.zeros((90, 160, 3), np.uint8))
    quarter = make_thumbnail(np.full((90, 160, 3), 63, np.uint8))
    more = make_thumbnail(np.full((90, 160, 3), 65, np.uint8))
    assert (dark.shape, dark.dtype) == ((36, 64), np.uint8)
    assert not is_scene_cut(dark, quarter)
    assert is_scene_cut(dark, more)
    assert is_scene_cut(more, dark)
    with pytest.raises(ValueError, match="shapes"):
        is_scene_cut(dark, more[:-1])
