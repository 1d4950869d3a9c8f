"""Times of an AVI, which says when pictures are coded and not when they are shown."""

import bisect
from typing import Any

# The codec whose times the library leaves as the file has them; of others it knows the order.
REORDERED_CODEC = "h264"


class CodingClock:
    """Gives each frame the earliest time that none has: frames come in the order of showing.

    A key frame is the first of its group to be shown, unless others lead up to it: times before its
    own are those of pictures that were lost.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def send(self, packet: Any) -> None:
        """Take a packet before it is decoded."""
        if packet.pts is not None:
            bisect.insort(self._waiting, packet.pts)

    def receive(self, frame: Any) -> None:
        """Move a frame as it comes out of the decoder."""
        if frame.pts is None or not self._waiting:
            return
        if frame.key_frame:
            del self._waiting[: bisect.bisect_left(self._waiting, frame.pts)]
        if self._waiting:
            frame.pts = self._waiting.pop(0)
