"""Runs of non-empty cells in a row."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def find_runs(
    touched: NDArray[np.bool_], cell: int, *, margin: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of each run of cells that hold a touched pixel.

    `touched` is (W,); cells are `cell` pixels wide, the last one may be narrower. Pixels up to
    `margin` beside a cell count as in it.
    """
    wide = touched.copy()
    for shift in range(1, margin + 1):
        wide[shift:] |= touched[:-shift]
        wide[:-shift] |= touched[shift:]
    count = -(-len(touched) // cell)
    padded = np.zeros(count * cell, np.bool_)
    padded[: len(wide)] = wide
    has_work = padded.reshape(count, cell).any(axis=1)
    edges = np.flatnonzero(np.diff(has_work, prepend=False, append=False))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
