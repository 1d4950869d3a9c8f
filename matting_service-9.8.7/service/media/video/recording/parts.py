"""Where the parts of a recording lie in its bytes: what scanners of its containers find."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """Positions: the header's end, the last part with a key frame, the end of what is complete."""

    header_end: int
    key_start: int
    end: int
