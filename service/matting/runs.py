"""Which parts of a row of cells have work in them."""

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
    count = -(-len(touched) // cell)
    start = None
    for j in range(count + 1):
        has_work = j < count and bool(
            touched[max(0, j * cell - margin) : (j + 1) * cell + margin].any()
        )
        if has_work and start is None:
            start = j
        elif not has_work and start is not None:
            yield start, j
            start = None
