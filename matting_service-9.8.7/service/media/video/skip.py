"""Groups of pictures before the start of a part: read past, not decoded."""

from typing import Any

# Codecs whose key frames start anew, whatever came before.
SEEKABLE = frozenset(
    "h264 hevc vp8 vp9 av1 mpeg1video mpeg2video mpeg4 mjpeg prores dnxhd ffv1".split()
)
MAX_HELD_BYTES = 64 << 20
# A key frame of H.264 may need some frames more until all of the picture is right.
KEPT_GROUPS = 2


class GroupSkipper:
    """Holds the packets back that come before the start, and forgets whole groups of them.

    The last KEPT_GROUPS groups before the start are decoded; what they show is left out by time.
    """

    def __init__(self, codec: str, decoder: Any) -> None:
        self._decoder = decoder
        self._is_active = codec in SEEKABLE
        self._start_pts: int | None = None
        self._groups: list[list[Any]] = []
        self._bytes = 0
        self._forgot = False

    def begin(self, start_pts: int) -> None:
        """Set the start, in ticks; before that nothing is held back."""
        if self._is_active:
            self._start_pts = start_pts

    def take(self, packet: Any) -> list[Any]:
        """Return the packets that are to be decoded now, in order."""
        if self._start_pts is None:
            return [packet]
        if packet.pts is None or packet.pts >= self._start_pts:
            return [*self.finish(), packet]
        if packet.is_keyframe or not self._groups:
            self._groups.append([])
        self._groups[-1].append(packet)
        self._bytes += packet.size
        while len(self._groups) > KEPT_GROUPS + 1:
            self._bytes -= sum(known.size for known in self._groups.pop(0))
            self._forgot = True
        return self._release() if self._bytes > MAX_HELD_BYTES else []

    def finish(self) -> list[Any]:
        """Return what is held back, and hold nothing back any more."""
        self._start_pts = None
        return self._release()

    def _release(self) -> list[Any]:
        held = [packet for group in self._groups for packet in group]
        if self._forgot:
            self._decoder.flush_buffers()
        self._groups, self._bytes, self._forgot = [], 0, False
        return held
