"""SOC: the losses that adapt MODNet to photos without labels.

Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition", AAAI 2022,
section 3.3, with the weights of the released code.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.losses.semantic import reduce_to_semantic


class SocLosses(NamedTuple):
    """Scaled losses of one unlabelled batch; train on their sum."""

    semantic: Tensor
    detail: Tensor


def compute_soc_losses(
    semantic: Tensor,
    detail: Tensor,
    matte: Tensor,
    backup_detail: Tensor,
    backup_matte: Tensor,
    *,
    semantic_scale: float = 100.0,
    detail_scale: float = 1.0,
) -> SocLosses:
    """Return the losses that make the three outputs of one unlabelled batch agree (section 3.3).

    The backups are outputs of a frozen copy of the network: they keep details from fading away.
    Shapes as in compute_supervised_losses. A photo without a boundary adds nothing.
    """
    matte16x = reduce_to_semantic(matte)
    semantic_loss = F.mse_loss(semantic, drop_faint(matte16x)) + F.mse_loss(
        matte16x, drop_faint(semantic)
    )
    boundary = find_boundary(semantic, matte)
    detail_loss = average_inside(boundary, (detail - backup_detail).abs())
    matte_loss = average_inside(boundary, (matte - backup_matte).abs())
    return SocLosses(semantic_scale * semantic_loss, detail_scale * (detail_loss + matte_loss))


def drop_faint(target: Tensor) -> Tensor:
    """Return the values above 0.01 as a constant target, the others as 0."""
    target = target.detach()
    return torch.where(target > 0.01, target, torch.zeros_like(target))


@torch.no_grad()
def find_boundary(semantic: Tensor, matte: Tensor) -> Tensor:
    """Return 1 near the outline of the person, 0 elsewhere: (N, 1, H, W).

    The outline is where dilation and erosion of the foreground differ, in a window of 5 % of the
    mean side.
    """
    height, width = matte.shape[2:]
    window = int((height + width) / 2 * 0.05)
    if window < 2:
        return torch.zeros_like(matte)
    person = (semantic > 0.1).to(matte)
    person = F.interpolate(person, scale_factor=16, mode="bilinear", align_corners=False)
    foreground = (matte > 0.1).to(matte) * person
    short, long = (window - 1) // 2, window // 2  # differ if the window is even
    dilated = pool_max(foreground, window, short, long)
    eroded = -pool_max(-foreground, window, long, short)
    return (dilated != eroded).to(matte)


def pool_max(x: Tensor, window: int, before: int, after: int) -> Tensor:
    """Return the maximum over a square window that starts `before` pixels up and left."""
    padded = F.pad(x, (before, after, before, after), value=-math.inf)
    return F.max_pool2d(padded, window, stride=1)


def average_inside(region: Tensor, error: Tensor) -> Tensor:
    """Return the mean error inside the region of each photo, averaged over the batch."""
    inside = (region * error).sum(dim=(1, 2, 3))  # (N,)
    # An empty region gives 0 / 1 and no gradient; 0 / 0 would put NaN into every weight.
    return (inside / region.sum(dim=(1, 2, 3)).clamp(min=1)).mean()
