"""What of a clip did not become pictures: packets that no frame came of."""

from fractions import Fraction
from typing import Any

# The second field of a picture may come in a packet of its own, half a frame later.
_FIELD = Fraction(3, 4)
# What starts a picture of MPEG-4, and how long one without pixels is, as FFmpeg has it.
VOP = b"\0\0\1\xb6"
_MAX_EMPTY_BYTES = 19
_PREDICTED = 1


class LossCounter:
    """Compares the packets of the picture that were decoded with the frames that came of them.

    Times tell them apart: a frame has the time of its packet. Packets that show nothing, by their
    own header or because an edit list cuts them off, are not missed.
    """

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._waiting: set[int] = set()
        self._damaged = 0
        self._last_damaged: int | None = None
        self.packets = 0

    def send(self, packet: Any) -> None:
        """Take a packet before it is decoded."""
        self.packets += 1
        if packet.pts is not None and not packet.is_discard and is_shown(self._codec, packet):
            self._waiting.add(packet.pts)

    def receive(self, frame: Any) -> None:
        """Take a frame as it comes out of the decoder."""
        if frame.is_corrupt:
            self._damaged += 1
            self._last_damaged = frame.pts
        if frame.pts is None:
            return
        self._waiting.discard(frame.pts)
        if frame.interlaced_frame and frame.duration:
            until = frame.pts + frame.duration * _FIELD
            fields = [pts for pts in self._waiting if frame.pts < pts < until]
            self._waiting.difference_update(fields)

    def count_damaged(self, cut_pts: int | None) -> int:
        """Return how many frames were decoded in part.

        `cut_pts`: of the packet in the middle of which the file ends; decoders fill up the rest.
        """
        is_shown = cut_pts is not None and cut_pts not in self._waiting
        return self._damaged + (is_shown and cut_pts != self._last_damaged)

    def list_lost(self) -> list[int]:
        """Return the times, in ticks, of the pictures that did not come; at the end of decoding."""
        return sorted(self._waiting)


def is_shown(codec: str, packet: Any) -> bool:
    """Say whether a packet holds a picture to show: VP8 and VP9 also code hidden references.

    RFC 6386, section 9.1; VP9 bitstream specification, section 6.2 and annex B. MPEG-4 has pictures
    of a few bytes that say that nothing changes (vop_coded, ISO/IEC 14496-2, 6.2.5).
    """
    if codec == "mpeg4" and packet.size <= _MAX_EMPTY_BYTES:
        picture = bytes(packet).partition(VOP)[2]
        return not picture or picture[0] >> 6 != _PREDICTED
    if codec not in ("vp8", "vp9") or packet.size < 1:
        return True
    data = memoryview(packet)
    first, last = data[0], data[-1]
    if codec == "vp8":
        return bool(first & 0x10)
    if last & 0xE0 == 0xC0:  # a superframe: the last of its frames is shown
        return True
    shift = 1 if first & 0x30 == 0x30 else 0  # profile 3 has one bit more
    shows_existing = first >> (3 - shift) & 1
    return bool(shows_existing or first >> (1 - shift) & 1)
