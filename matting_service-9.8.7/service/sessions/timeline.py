"""The timeline of a session: ticks of frames across chunks."""

from dataclasses import dataclass
from fractions import Fraction

from service.errors import ImpossibleOutput, MediaLimitExceeded
from service.media.video.types import Image, VideoFrame
from service.media.video.writing.fragment_writer import TICKS_PER_S
from service.media.wire.fields import MAX_TICKS

MAX_GAP_S = 3600  # MP4 counts a frame's duration in 31 bits
# Sums of the fractions that clients choose would grow without end.
_MAX_DENOMINATOR = 10**12


@dataclass(frozen=True)
class Timeline:
    """How far a session has come: the exact end in seconds, the last frame's time in ticks."""

    end_s: Fraction = Fraction(0)
    last_ticks: int = -1


@dataclass(frozen=True, eq=False)
class TimedImage:
    """A picture of a chunk, at a time of the chunk's own clock; see VideoFrame for the pixels."""

    time_s: Fraction
    duration_s: Fraction
    image: Image
    alpha: Image | None = None


class ChunkClock:
    """Places the pictures of one chunk after those of the chunks before.

    The chunk begins where the one before ended, or, if it is `absolute`, when its own times say;
    distances are kept. `timeline` is where the next chunk goes on. `shift_s`: what is added to the
    chunk's times, known for a later slice of one recording.
    """

    def __init__(
        self, timeline: Timeline, *, absolute: bool, shift_s: Fraction | None = None
    ) -> None:
        self.timeline = timeline
        self.shift_s = Fraction(0) if absolute and shift_s is None else shift_s
        # Within a chunk, times closer than a tick are moved.
        self._must_be_later = absolute and shift_s is None

    def place(self, timed: TimedImage) -> VideoFrame:
        """Return a picture as a frame whose times are ticks of the session.

        Raises ImpossibleOutput for a chunk that goes back in time, MediaLimitExceeded for one that
        leaves a gap of over an hour.
        """
        before = self.timeline
        if self.shift_s is None:
            self.shift_s = before.end_s - timed.time_s
        time_s = timed.time_s + self.shift_s
        ticks = round(time_s * TICKS_PER_S)
        if self._must_be_later and ticks <= before.last_ticks:
            raise ImpossibleOutput(
                f"the chunk begins at {float(time_s):g} s, the session's last frame is at "
                f"{before.last_ticks / TICKS_PER_S:g} s",
                hint="send chunks in order, or open the session with timestamps=continue",
            )
        ticks = max(ticks, before.last_ticks + 1)
        _check_gap(ticks, before)
        end_s = time_s + timed.duration_s
        if end_s.denominator > _MAX_DENOMINATOR:
            end_s = Fraction(round(end_s * TICKS_PER_S), TICKS_PER_S)
        self._must_be_later = False
        self.timeline = Timeline(end_s, ticks)
        duration = max(1, round(timed.duration_s * TICKS_PER_S))
        return VideoFrame(ticks, duration, timed.image, timed.alpha)


def _check_gap(ticks: int, before: Timeline) -> None:
    if ticks >= MAX_TICKS:
        raise ImpossibleOutput("the chunk's times make no sense", hint="use timestamps=continue")
    gap_s = (ticks - before.last_ticks) / TICKS_PER_S
    if before.last_ticks >= 0 and gap_s > MAX_GAP_S:
        raise MediaLimitExceeded(
            f"a frame comes {gap_s:.0f} s after the one before, the limit is {MAX_GAP_S}",
            hint="open the session with timestamps=continue",
            limit=MAX_GAP_S,
            actual=round(gap_s, 3),
        )
