import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.matting.runs import find_runs


def find(touched, cell, margin=0):
    return list(find_runs(np.array(touched, bool), cell, margin=margin))


@pytest.mark.parametrize(
    "touched, runs",
    [
        ([], []),
        ([0], []),
        ([1], [(0, 1)]),
        ([0, 0, 0, 1], [(1, 2)]),
        ([1, 0, 0, 0, 0, 0, 1], [(0, 1), (3, 4)]),  # the last cell is narrower
        ([1, 0, 0, 1], [(0, 2)]),
        ([1, 1, 1, 1, 1], [(0, 3)]),
    ],
)
def test_runs_of_cells_of_two(touched, runs):
    assert find(touched, 2) == runs


@pytest.mark.parametrize("at, runs", [(3, [(0, 2)]), (4, [(0, 2)]), (5, [(1, 2)]), (7, [(1, 3)])])
def test_margin_takes_the_neighbour_in(at, runs):
    touched = np.zeros(12, bool)
    touched[at] = True
    assert find(touched, 4, margin=1) == runs


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 20), st.integers(0, 3))
def test_runs_hold_every_touched_pixel_and_no_cell_without(touched, cell, margin):
    runs = find(touched, cell, margin)
    found = {j for first, last in runs for j in range(first, last)}
    count = -(-len(touched) // cell)
    expected = {
        j for j in range(count) if any(touched[max(0, j * cell - margin) : (j + 1) * cell + margin])
    }
    assert found == expected
    # Apart from each other and in order: neighbours would have been one run.
    assert all(a[1] < b[0] for a, b in zip(runs, runs[1:], strict=False))
