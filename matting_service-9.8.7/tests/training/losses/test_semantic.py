import math

import pytest
import torch

from training.losses.semantic import measure_cells, stress_hard_cells


def test_worst_tenth_of_the_cells_counts_again():
    error = torch.cat([torch.zeros(90), torch.ones(10)])
    assert stress_hard_cells(error, 0.0).item() == pytest.approx(0.1)
    assert stress_hard_cells(error, 0.5).item() == pytest.approx(0.6)


def test_cells_cost_the_scaled_l2_and_half_the_cross_entropy():
    alpha, semantic = torch.ones(1, 1, 64, 64), torch.full((1, 1, 4, 4), 0.25)
    loss = measure_cells(semantic, alpha, hard_cells=0.0)
    assert loss.item() == pytest.approx(10 * 0.75**2 - 0.5 * math.log(0.25), rel=1e-5)
