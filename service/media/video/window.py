"""Select frames and audio of a clip by time (decoder child)."""

import math
from collections.abc import Iterable
from fractions import Fraction

from service.media.video.types import ClipSelection

# Times come as decimal numbers and clocks of 1 ms: what is this near to a border is on it.
_NEAR_S = Fraction(1, 2000)
# Times that a clock of 1 ms has rounded still count as even: of the distance of two frames, and of
# a second where few are selected.
_JITTER, _JITTER_S = Fraction(1, 4), Fraction(1, 50)


class FrameSelector:
    """The selected part of a clip, told all times in order.

    `is_over` once nothing more can be selected, `frames_are_over` once no frame can. `rate`: the
    most frames a second, None for all.
    """

    def __init__(self, selection: ClipSelection) -> None:
        self._selection = selection
        self._start_s = _to_fraction(selection.start_s) if selection.start_s else None
        self._limits_s: tuple[Fraction | None, Fraction | None] = None, None
        self._end_s = None if selection.end_s is None else _to_fraction(selection.end_s)
        self.rate = None if selection.max_fps is None else _to_fraction(selection.max_fps)
        self._first_s: Fraction | None = None
        self._last_slot = -1
        self._open_sounds: set[int] = set()
        self.frames_are_over = False

    @property
    def is_over(self) -> bool:
        return self.frames_are_over and not self._open_sounds

    def begin(self, origin_s: Fraction, tracks: Iterable[int]) -> None:
        """Set the time that a player calls zero, and the audio tracks; nothing is asked before."""
        self._open_sounds.update(tracks)
        if self._start_s is not None:
            self._start_s += origin_s - _NEAR_S
        if self._end_s is not None:
            self._end_s += origin_s - _NEAR_S
        after_s = self._selection.after_s
        if after_s is not None:
            self._start_s = Fraction(after_s) + _NEAR_S
        self._limits_s = self._start_s, self._end_s

    @property
    def start_s(self) -> Fraction | None:
        """When the part begins, None for all from the beginning."""
        return self._limits_s[0]

    @property
    def end_s(self) -> Fraction | None:
        """When the part ends, None for all to the end."""
        return self._limits_s[1]

    def contains(self, time_s: Fraction) -> bool:
        """Say whether a moment lies in the part."""
        start_s, end_s = self._limits_s
        return (start_s is None or time_s >= start_s) and (end_s is None or time_s < end_s)

    def takes_frame(self, time_s: Fraction) -> bool:
        """Say whether the frame is selected; the first one that is also begins the audio."""
        if self._end_s is not None and time_s >= self._end_s:
            self.frames_are_over = True
            return False
        if self._start_s is not None and time_s < self._start_s:
            return False
        if self._first_s is None:
            self._first_s = time_s
            self._start_s = None if self._start_s is None else time_s
        if self.rate is not None:
            early = min(_JITTER, _JITTER_S * self.rate)
            slot = int((time_s - self._first_s) * self.rate + early)
            if slot <= self._last_slot:
                return False
            self._last_slot = slot
        return True

    def takes_audio(self, track: int, time_s: Fraction) -> bool:
        """Say whether a packet that begins at `time_s` is selected."""
        if self._end_s is not None and time_s >= self._end_s:
            self._open_sounds.discard(track)
            return False
        return self._start_s is None or time_s >= self._start_s

    def measure(self, duration_s: float | None) -> float | None:
        """Return how much is selected of a clip of that many seconds; None where nobody knows."""
        if duration_s is None:
            return None
        end_s = self._selection.end_s
        last_s = duration_s if end_s is None else min(duration_s, end_s)
        return max(last_s - self._selection.start_s, 0.0)

    def estimate(self, frames: int, duration_s: float | None, rate: Fraction | None) -> int | None:
        """Return about how many frames are selected of so many; None where nobody knows.

        `frames` is 0 where the file does not say it.
        """
        if frames <= 0 and duration_s and rate:
            frames = round(duration_s * rate)
        kept_s = self.measure(duration_s)
        if frames <= 0 or not duration_s or kept_s is None:
            return frames if frames > 0 else None
        most = math.inf if self._selection.max_fps is None else kept_s * self._selection.max_fps
        return round(min(frames * kept_s / duration_s, most))


def _to_fraction(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)
