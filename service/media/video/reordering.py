"""Times of an AVI, which says when pictures are coded and not when they are shown."""

import bisect
from typing import Any

from service.media.video.losses import VOP, is_shown

# Codecs whose times the library leaves as the file has them, of MPEG-4 where a picture comes in the
# packet of another one (DivX); of others it knows the order.
REORDERED_CODECS = ("h264", "mpeg4")


class CodingClock:
    """Gives each frame the earliest time that none has: frames come in the order of showing.

    A key frame is the first of its group to be shown, unless others lead up to it: times before its
    own are those of pictures that were lost.
    """

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._waiting: list[int] = []
        self._early = 0  # pictures that came in the packet of another one

    def send(self, packet: Any) -> None:
        """Take a packet before it is decoded."""
        if self._codec == "mpeg4":
            self._early += max(bytes(packet).count(VOP) - 1, 0)
        if packet.pts is None:
            return
        if is_shown(self._codec, packet):
            bisect.insort(self._waiting, packet.pts)
        elif self._early:  # an empty picture holds its place
            self._early -= 1
            bisect.insort(self._waiting, packet.pts)

    def receive(self, frame: Any) -> None:
        """Move a frame as it comes out of the decoder."""
        if frame.pts is None:
            return
        if frame.key_frame:
            del self._waiting[: bisect.bisect_left(self._waiting, frame.pts)]
        if self._waiting:
            frame.pts = self._waiting.pop(0)
