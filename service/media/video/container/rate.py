"""How many frames a second a clip has: its header's word, checked against the times of packets."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

# Packets of the picture that are read ahead for it, and what they may weigh.
PEEKED_PACKETS = 24
MAX_PEEKED_BYTES = 16 << 20
# A rate above this is the clock of a container unless the times say so, too.
_PLAUSIBLE_RATE = 240
_MANY_TIMES = 9  # fewer do not speak against a rate that may be true
_STANDARD_RATES = tuple(
    [Fraction(n) for n in (24, 25, 30, 48, 50, 60, 100, 120)]
    + [Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)]
)


def peek_packets(packets: Iterator[Any], index: int) -> list[Any]:
    """Return the first packets, so many that stream `index` shows its rhythm."""
    ahead: list[Any] = []
    count = size = 0
    while count < PEEKED_PACKETS and size < MAX_PEEKED_BYTES:
        packet = next(packets, None)
        if packet is None:
            break
        ahead.append(packet)
        size += packet.size + 256
        count += packet.stream.index == index
    return ahead


def choose_rate(stream: Any, packets: Iterable[Any]) -> tuple[Fraction | None, Fraction | None]:
    """Return the rate of a stream by its header and its first packets; None where nobody knows.

    The second one is the header's where that is not true; it is what durations of frames follow
    from that the file does not state.
    """
    times = sorted({p.pts for p in packets if p.stream.index == stream.index and p.pts is not None})
    stated = _read_stated(stream)
    measured = measure_rate([Fraction(time * stream.time_base) for time in times])
    is_plausible = stated is not None and stated <= _PLAUSIBLE_RATE
    if measured is None or (is_plausible and len(times) < _MANY_TIMES):
        return (stated, None) if is_plausible else (None, stated)
    if stated is not None and measured / 2 <= stated <= measured * 2:
        return stated, None
    return measured, stated


def measure_rate(times_s: list[Fraction]) -> Fraction | None:
    """Return the frames a second of rising times, None for fewer than three.

    The usual distance counts, not the mean: a pause does not make a clip slow. Times that a clock
    of 1 ms has rounded give the rate that was meant.
    """
    gaps = sorted(after - before for before, after in pairwise(times_s))
    if len(gaps) < 2:
        return None
    usual = gaps[len(gaps) // 2]
    alike = [gap for gap in gaps if usual / 2 <= gap <= usual * 2]
    rate = len(alike) / sum(alike, Fraction(0))
    near = min(_STANDARD_RATES, key=lambda known: float(abs(known - rate)))
    if abs(near - rate) <= near / 200:
        return near
    return rate.limit_denominator(1001) or None


def _read_stated(stream: Any) -> Fraction | None:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= 100_000 and max(rate.as_integer_ratio()) < 1 << 31:
            return Fraction(rate)
    return None
