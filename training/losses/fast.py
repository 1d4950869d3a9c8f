"""The losses of the fast network."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from training.config import CROSS_ENTROPY
from training.losses.semantic import stress_hard_cells

UNKNOWN_WEIGHT = 4.0  # of pixels where the trimap does not know, elsewhere 1
SCALES = 3  # the gradient is compared at 1, 1/2 and 1/4
SEMANTIC_SCALE = 0.1


class FastLosses(NamedTuple):
    """Scaled losses of one batch; train on their sum."""

    semantic: Tensor
    detail: Tensor
    matte: Tensor


def compute_fast_losses(
    semantic: Tensor,
    matte: Tensor,
    alpha: Tensor,
    trimap: Tensor,
    hard_cells: float = 0.0,
    cross_entropy: float = CROSS_ENTROPY,
) -> FastLosses:
    """Return the losses of the fast network's two outputs against the true alpha.

    `semantic` (N, 1, H/16, W/16) and `matte` (N, 1, H, W) are logits, float32; alpha (N, 1, H, W)
    is in [0, 1]; trimap (N, 1, H, W) is 0, 0.5 or 1. `detail` is the L1 of the gradients of the
    matte, coarse ones weighing more, as a Laplacian pyramid would have it. With much
    `cross_entropy` a matte is the mean of what is likely, with little of it the median.
    """
    cells = F.binary_cross_entropy_with_logits(semantic, F.avg_pool2d(alpha, 16), reduction="none")
    semantic_loss = stress_hard_cells(cells, hard_cells)
    prediction = matte.sigmoid()
    weight = 1 + (UNKNOWN_WEIGHT - 1) * (trimap == 0.5).to(prediction)
    matte_loss = (weight * (prediction - alpha).abs()).mean()
    matte_loss = matte_loss + cross_entropy * F.binary_cross_entropy_with_logits(matte, alpha)
    detail_loss = compare_gradients(prediction - alpha, weight)
    return FastLosses(SEMANTIC_SCALE * semantic_loss, detail_loss, matte_loss)


def compare_gradients(difference: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted L1 of the differences between neighbours of (N, 1, H, W), at SCALES."""
    total = difference.new_zeros(())
    for scale in range(SCALES):
        right = difference[..., 1:] - difference[..., :-1]
        down = difference[..., 1:, :] - difference[..., :-1, :]
        error = (weight[..., 1:] * right.abs()).mean() + (weight[..., 1:, :] * down.abs()).mean()
        total = total + 0.25 * 2**scale * error
        difference, weight = F.avg_pool2d(difference, 2), F.avg_pool2d(weight, 2)
    return total
