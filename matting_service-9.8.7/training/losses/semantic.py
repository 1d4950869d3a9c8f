"""The target of the semantic prediction: the alpha, blurred, at 1/16 of its size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR_SIGMA = 0.8


def make_blur_kernel() -> Tensor:
    """Return the 3 x 3 blur of the semantic target, float32, sum 1.

    It is what a Gaussian filter makes of a single point in a 3 x 3 image with reflecting borders:
    the tails that leave the image come back, so it is wider than a Gaussian cut off at 3 x 3.
    """
    w0, w1, w2, w3 = (math.exp(-0.5 * (x / BLUR_SIGMA) ** 2) for x in range(4))
    line = torch.tensor([w1 + w2, w0 + 2 * w3, w1 + w2], dtype=torch.float64)
    line /= w0 + 2 * (w1 + w2 + w3)
    return torch.outer(line, line).float()  # (3, 3)


def reduce_to_semantic(alpha: Tensor) -> Tensor:
    """Return the blurred alpha at 1/16 of its size: (N, 1, H, W) -> (N, 1, H/16, W/16)."""
    small = F.interpolate(alpha, scale_factor=1 / 16, mode="bilinear", align_corners=False)
    kernel = make_blur_kernel().to(small)[None, None]  # (1, 1, 3, 3)
    return F.conv2d(F.pad(small, (1, 1, 1, 1), mode="reflect"), kernel)


def measure_cells(semantic: Tensor, alpha: Tensor, hard_cells: float) -> Tensor:
    """Return the loss of the semantic prediction while it is trained alone.

    `semantic` is (N, 1, H/16, W/16) float32 in [0, 1], `alpha` (N, 1, H, W). The scaled L2 of Ke et
    al., and half the cross-entropy, which pulls solid cells to the right side.
    """
    target = reduce_to_semantic(alpha)
    error = 10 * (semantic - target).square()
    error = error + 0.5 * F.binary_cross_entropy(semantic, target, reduction="none")
    return stress_hard_cells(error, hard_cells)


def stress_hard_cells(error: Tensor, weight: float) -> Tensor:
    """Return the mean of all cells, and `weight` times the mean of their worst tenth again.

    Wrong solid parts are few cells and vanish in the mean; soft edges pay a little for it.
    """
    if not weight:
        return error.mean()
    worst = error.flatten().topk(max(1, error.numel() // 10)).values
    return error.mean() + weight * worst.mean()
