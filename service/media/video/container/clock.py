"""One clock for a clip whose own goes back or jumps, as where recordings were joined."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

# FFmpeg's own borders for a discontinuity: a clock that goes back so far, or ahead.
BACK_S = Fraction(1, 10)
AHEAD_S = Fraction(10)
# Packets of a new piece that wait until every track has shown where the piece begins for it.
MAX_HELD_PACKETS = 512
MAX_HELD_BYTES = 16 << 20
# Behind a step back the library takes times of presentation for those of decoding (Matroska): a
# picture between others then lies before them, by so many pictures or seconds at most.
MAX_REORDERED = 16
MAX_REORDERED_S = Fraction(1)
# Times of FLV have 31 or 32 bits, as programs take it, and may lie below zero: by less than this.
_FLV_PERIOD_MS, _FLV_BEFORE_MS = 1 << 31, 3_600_000


class ClockCorrector:
    """Moves the packets of each piece of a clip so that it follows the piece before.

    A piece begins where the clock of a track goes back, or, with `may_jump`, runs ahead of all
    tracks. All tracks of a piece are moved alike, so audio and picture stay together, by so much
    that none of them overlaps with what came before. `corrections` counts the pieces moved.
    Packets that an edit list cuts off say nothing of the clock.
    """

    def __init__(self, *, may_jump: bool) -> None:
        self.corrections = 0
        self._may_jump = may_jump
        self._offset_s = Fraction(0)
        self._last_s: dict[int, Fraction] = {}  # by track, when its last packet begins
        self._ends_s: dict[int, Fraction] = {}  # and ends; both corrected
        self._held: list[Any] = []
        self._held_bytes = 0
        self._firsts_s: dict[int, Fraction] = {}  # of the held piece, by track, uncorrected
        self._held_last_s: dict[int, Fraction] = {}

    def correct(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield the packets with their times corrected, a new piece's a little later."""
        for packet in packets:
            yield from self._take(packet)
        yield from self._release()

    def _take(self, packet: Any) -> Iterator[Any]:
        time_s = _read_time(packet)
        if time_s is None:
            if self._held:
                self._hold(packet)
            else:
                yield self._emit(packet)
            return
        index = packet.stream.index
        if self._held and (index in self._firsts_s or index not in self._last_s):
            before_s = self._held_last_s.get(index, time_s)
            latest_s = max(self._held_last_s.values())
            if not self._breaks(packet, time_s, before_s, latest_s):
                self._enter(packet, time_s)
                if self._is_settled():
                    yield from self._release()
                return
            yield from self._release()  # one more piece begins
        corrected_s = time_s + self._offset_s
        last_s = self._last_s.get(index)
        latest_s = max(self._ends_s.values(), default=corrected_s)
        if last_s is not None and self._breaks(packet, corrected_s, last_s, latest_s):
            self._enter(packet, time_s)
            if self._is_settled():
                yield from self._release()
            return
        yield self._emit(packet)

    def _breaks(self, packet: Any, time_s: Fraction, last_s: Fraction, latest_s: Fraction) -> bool:
        if self._may_jump and time_s > latest_s + AHEAD_S:
            return True
        return time_s < last_s - BACK_S and time_s < last_s - _measure_reach(packet)

    def _enter(self, packet: Any, time_s: Fraction) -> None:
        index = packet.stream.index
        self._firsts_s.setdefault(index, time_s)
        self._held_last_s[index] = time_s
        self._hold(packet)

    def _hold(self, packet: Any) -> None:
        self._held.append(packet)
        self._held_bytes += packet.size

    def _is_settled(self) -> bool:
        """Say whether every track has entered the new piece, or has been waited for enough."""
        return (
            self._last_s.keys() <= self._firsts_s.keys()
            or len(self._held) >= MAX_HELD_PACKETS
            or self._held_bytes >= MAX_HELD_BYTES
        )

    def _release(self) -> Iterator[Any]:
        """Yield the held piece, moved behind what came before."""
        if not self._held:
            return
        self._offset_s = max(
            self._ends_s[index] - first_s
            for index, first_s in self._firsts_s.items()
            if index in self._ends_s
        )
        self.corrections += 1
        held, self._held, self._held_bytes = self._held, [], 0
        self._firsts_s, self._held_last_s = {}, {}
        yield from map(self._emit, held)

    def _emit(self, packet: Any) -> Any:
        """Return the packet, moved, and remember where its track is now."""
        index, time_base = packet.stream.index, packet.time_base
        if self._offset_s:
            ticks = round(self._offset_s / time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        time_s = _read_time(packet)
        if time_s is not None:
            last_s = self._last_s.get(index, time_s)
            length_s = (packet.duration or 0) * time_base or max(time_s - last_s, Fraction(0))
            self._last_s[index] = max(time_s, last_s)
            self._ends_s[index] = max(time_s + length_s, self._ends_s.get(index, time_s))
        return packet


def _read_time(packet: Any) -> Fraction | None:
    """Return when a packet is decoded, in seconds, None where it says nothing of the clock.

    Pictures are shown in another order.
    """
    if packet.dts is None or packet.is_discard:
        return None
    return Fraction(packet.dts * packet.time_base)


def _measure_reach(packet: Any) -> Fraction:
    """Return how far back a packet may lie, in seconds, without a step back of the clock."""
    if packet.stream.type != "video" or packet.is_keyframe:
        return BACK_S
    return max(MAX_REORDERED_S, MAX_REORDERED * Fraction(packet.time_base) * (packet.duration or 0))


class FlvClock:
    """The clock of an FLV whose times begin below zero, or run over after 24 days."""

    def __init__(self) -> None:
        self._least: int | None = None

    def move(self, packet: Any) -> None:
        """Move a packet to its time, in place."""
        packet.pts, packet.dts = self.unwrap(packet.pts), self.unwrap(packet.dts)

    def unwrap(self, ticks: int | None) -> int | None:
        """Return the time that is meant, nearest to the first one."""
        if ticks is None:
            return None
        if self._least is None:
            first = _lift(ticks, -_FLV_BEFORE_MS)
            self._least = first - _FLV_PERIOD_MS // 2
        return _lift(ticks, self._least)


def _lift(ticks: int, least: int) -> int:
    return (ticks - least) % _FLV_PERIOD_MS + least
