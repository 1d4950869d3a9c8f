"""The supervised losses of MODNet.

Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition", AAAI 2022,
section 3.2, with the weights and the extra boundary terms of the released code.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.losses.semantic import reduce_to_semantic


class SupervisedLosses(NamedTuple):
    """Scaled losses of one labelled batch; train on their sum."""

    semantic: Tensor
    detail: Tensor
    matte: Tensor


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
