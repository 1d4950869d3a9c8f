"""What MODNet learns from: supervised losses, and SOC adaptation on photos without labels.

Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition", AAAI 2022,
sections 3.2 and 3.3, with the weights and the extra boundary terms of the released code.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR_SIGMA = 0.8


class SupervisedLosses(NamedTuple):
    """Scaled losses of one labelled batch; train on their sum."""

    semantic: Tensor
    detail: Tensor
    matte: Tensor


class SocLosses(NamedTuple):
    """Scaled losses of one unlabelled batch; train on their sum."""

    semantic: Tensor
    detail: Tensor


def compute_supervised_losses(
    semantic: Tensor,
    detail: Tensor,
    matte: Tensor,
    image: Tensor,
    alpha: Tensor,
    trimap: Tensor,
    *,
    detail_loss: Literal["l1", "bce"] = "l1",
    semantic_scale: float = 10.0,
    detail_scale: float = 10.0,
    matte_scale: float = 1.0,
) -> SupervisedLosses:
    """Return the losses of the network's three outputs against the true alpha.

    semantic (N, 1, H/16, W/16), detail and matte (N, 1, H, W) are predictions in [0, 1]; image
    (N, 3, H, W) is normalised to [-1, 1]; alpha (N, 1, H, W) is in [0, 1]; trimap (N, 1, H, W) is
    0, 0.5 or 1. `bce` replaces the L1 of the detail loss by cross-entropy.
    Raises ValueError if the trimap holds another value (0..255, say): the detail loss of such a
    trimap is 0, and training would go on without it.
    """
    levels = torch.tensor([0.0, 0.5, 1.0], dtype=trimap.dtype, device=trimap.device)
    if not bool(torch.isin(trimap, levels).all()):
        raise ValueError("the trimap must hold the values 0, 0.5 and 1 only")
    is_unknown = trimap == 0.5

    semantic_loss = F.mse_loss(semantic, reduce_to_semantic(alpha))

    if detail_loss == "bce":
        detail_error = F.binary_cross_entropy(detail, alpha, reduction="none")
    else:
        detail_error = (detail - alpha).abs()
    # Mean over all pixels, not over the unknown ones: narrow boundaries weigh less.
    detail_loss_value = (is_unknown * detail_error).mean()

    # Where the trimap is known it stands in for the prediction: this matte differs from the true
    # alpha by what can be learnt at the boundary, plus a constant where trimap and alpha disagree.
    boundary_matte = torch.where(is_unknown, matte, trimap)
    matte_error = (matte - alpha).abs().mean()
    boundary_error = (boundary_matte - alpha).abs().mean()
    # The compositional terms take black in normalised space as the new background.
    composite_error = (image * matte - image * alpha).abs().mean()
    boundary_composite_error = (image * boundary_matte - image * alpha).abs().mean()
    matte_loss = matte_error + 4 * boundary_error + composite_error + 4 * boundary_composite_error
    return SupervisedLosses(
        semantic_scale * semantic_loss, detail_scale * detail_loss_value, matte_scale * matte_loss
    )


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
