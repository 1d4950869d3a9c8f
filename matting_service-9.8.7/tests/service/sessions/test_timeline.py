"""Times of chunks on the clock of their session."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ImpossibleOutput, MediaLimitExceeded
from service.media.video.writing.fragment_writer import TICKS_PER_S
from service.sessions.timeline import MAX_GAP_S, ChunkClock, TimedImage, Timeline

IMAGE = np.zeros((1, 1, 3), np.uint8)


def place(timeline: Timeline, times_s: list[Fraction], *, absolute: bool = False, lasts_s=None):
    clock = ChunkClock(timeline, absolute=absolute)
    length_s = lasts_s or Fraction(1, 30)
    frames = [clock.place(TimedImage(time_s, length_s, IMAGE)) for time_s in times_s]
    return [frame.pts for frame in frames], clock.timeline


@given(
    fps=st.sampled_from([Fraction(n) for n in (7, 24, 25, 30, 60)] + [Fraction(30_000, 1001)]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    starts=st.lists(st.integers(0, 10**6), min_size=6, max_size=6),
)
def test_any_split_gives_the_times_of_one_chunk(fps, sizes, starts) -> None:
    whole, _ = place(Timeline(), [index / fps for index in range(sum(sizes))], lasts_s=1 / fps)
    timeline, found = Timeline(), []
    for size, start in zip(sizes, starts, strict=False):
        times = [start + index / fps for index in range(size)]
        ticks, timeline = place(timeline, times, lasts_s=1 / fps)
        found += ticks
    assert found == whole
    if fps.numerator != 7:
        assert whole == [index / fps * TICKS_PER_S for index in range(sum(sizes))]


def test_distances_of_a_variable_rate_are_kept() -> None:
    _, timeline = place(Timeline(), [Fraction(0), Fraction(1, 10)])
    ticks, _ = place(timeline, [Fraction(5), Fraction(51, 10), Fraction(6)])
    start = (Fraction(1, 10) + Fraction(1, 30)) * TICKS_PER_S
    assert ticks == [start, start + TICKS_PER_S // 10, start + TICKS_PER_S]


def test_absolute_times_are_trusted() -> None:
    ticks, timeline = place(Timeline(), [Fraction(3), Fraction(4)], absolute=True)
    assert ticks == [3 * TICKS_PER_S, 4 * TICKS_PER_S]
    ticks, _ = place(timeline, [Fraction(10)], absolute=True)
    assert ticks == [10 * TICKS_PER_S]


@pytest.mark.parametrize("start_s", [Fraction(4), Fraction(39, 10), Fraction(-1)])
def test_chunk_that_goes_back_in_time_is_refused(start_s: Fraction) -> None:
    _, timeline = place(Timeline(), [Fraction(4)], absolute=True)
    with pytest.raises(ImpossibleOutput, match="last frame is at 4 s"):
        place(timeline, [start_s], absolute=True)


def test_chunk_before_zero_and_times_without_end_are_refused() -> None:
    for start_s in (Fraction(-1, 10), Fraction(2**53)):
        with pytest.raises(ImpossibleOutput):
            place(Timeline(), [start_s], absolute=True)


def test_gap_that_mp4_cannot_say_is_refused_with_the_limit() -> None:
    _, timeline = place(Timeline(), [Fraction(0)], absolute=True)
    with pytest.raises(MediaLimitExceeded) as raised:
        place(timeline, [Fraction(MAX_GAP_S) + 1], absolute=True)
    assert raised.value.limit == MAX_GAP_S and raised.value.actual == MAX_GAP_S + 1


def test_fractions_of_hostile_clocks_do_not_grow() -> None:
    timeline = Timeline()
    for prime in (2_147_483_647, 2_147_483_629, 2_147_483_587, 2_147_483_579):
        _, timeline = place(timeline, [Fraction(1, prime)], lasts_s=Fraction(7, prime))
        assert timeline.end_s.denominator <= 10**12
