"""Pictures of MPEG-1 and MPEG-2 that are missing between two others, by their temporal references.

ISO/IEC 11172-2 and ITU-T H.262, 6.3.9: pictures are numbered as they are shown, from 0 behind each
header of a group. Decoders say nothing where a number is missing.
"""

from typing import Any

MPEG_CODECS = ("mpeg1video", "mpeg2video")
_GROUP, _PICTURE = b"\0\0\1\xb8", b"\0\0\1\0"
_HEAD_BYTES = 4096  # of a packet: its picture begins behind headers and user data
_ANCHORS = (1, 2)  # types of pictures that those shown between two of them are predicted from
_NUMBERS = 1024
_FARTHEST = 64  # numbers from one anchor to the next: farther away they are not to be believed


class ReferenceWatch:
    """Counts the places where pictures are missing between two anchors (I or P); `places`.

    What is shown before an anchor comes behind it, so the numbers between two anchors are looked at
    when the next one begins, or a group: what a cut leaves of the last ones is no damage.
    """

    def __init__(self) -> None:
        self.places = 0
        self._anchors: list[int] = []  # the last two
        self._between: set[int] = set()  # pictures that came since the last

    def take(self, packet: Any) -> None:
        """Look at a packet before it is decoded."""
        head = bytes(memoryview(packet)[:_HEAD_BYTES])
        at = head.find(_PICTURE)
        if at < 0 or len(head) < at + 6:
            self._anchors.clear()
            return
        if head.find(_GROUP, 0, at) >= 0:
            self._check()
            self._anchors.clear()
        number = head[at + 4] << 2 | head[at + 5] >> 6
        is_anchor = head[at + 5] >> 3 & 7 in _ANCHORS
        if not is_anchor:
            self._between.add(number)
        elif self._anchors[-1:] != [number]:  # else it is the second field
            self._check()
            self._anchors = [*self._anchors[-1:], number]
            self._between.clear()

    def _check(self) -> None:
        if len(self._anchors) < 2:
            return
        first, last = self._anchors
        steps = (last - first) % _NUMBERS
        if steps <= _FARTHEST:
            between = {(first + step) % _NUMBERS for step in range(1, steps)}
            self.places += not between <= self._between
