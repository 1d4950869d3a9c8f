"""Strands of hair, looked for in a process of its own: it takes long, and much memory."""

import numpy as np

from service.matting.fine import Band, Floats, Image, solve
from service.media.wire.apart import run_apart
from service.threads import IsLate

CHILD = "service.stills.strands_child"
APART_BAND = 100_000  # unsure pixels; less takes a second
MEMORY_BYTES = 6 << 30


def solve_strands(image: Image, alpha: Floats, band: Band, is_late: IsLate) -> Floats:
    """Do as `service.matting.fine.solve`, apart where there is much; raises NotReady, too."""
    if np.count_nonzero(band) < APART_BAND:
        return solve(image, alpha, band, is_late)
    parts = [np.ascontiguousarray(layer).data for layer in (alpha, image, band)]
    facts = {"shape": alpha.shape, "memory_bytes": MEMORY_BYTES}
    return np.frombuffer(run_apart(CHILD, facts, parts, is_late), np.float32).reshape(alpha.shape)
