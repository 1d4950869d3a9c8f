"""The shape of the pixels of a clip, which may change on the way (decoder child)."""

from fractions import Fraction
from typing import Any

MAX_STRETCH = 8  # stranger shapes are damage


class AspectTracker:
    """Says how much wider than those of the first frame the pixels of a frame are.

    Frames do not tell, their decoder does, ahead of the frames that it holds back: a new shape
    begins with the key frame that was sent last.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._key_pts: int | None = None
        self._first: Fraction | None = None
        self._shapes: list[tuple[int | None, Fraction]] = []

    def send(self, packet: Any) -> None:
        """Take a packet before it is decoded."""
        if packet.is_keyframe:
            self._key_pts = packet.pts

    def receive(self) -> None:
        """Take note of what the decoder says once frames have come out of it."""
        shape = read_aspect(self._decoder.sample_aspect_ratio)
        if self._first is None:
            self._first = shape
        if shape != (self._shapes[-1][1] if self._shapes else self._first):
            self._shapes.append((self._key_pts, shape))

    def measure(self, pts: int | None) -> Fraction:
        """Return the factor for a frame that is shown at `pts`."""
        shape = first = self._first or Fraction(1)
        for start, following in self._shapes:
            if pts is None or start is None or pts >= start:
                shape = following
        factor = shape / first
        return factor if 1 / MAX_STRETCH <= factor <= MAX_STRETCH else Fraction(1)


def read_aspect(stated: Any) -> Fraction:
    """Return width over height of a pixel; square ones where nothing sensible is stated."""
    aspect = Fraction(stated or 1)
    return aspect if aspect > 0 and max(aspect.as_integer_ratio()) < 1 << 31 else Fraction(1)
