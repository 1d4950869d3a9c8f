"""Fold batch norms into the convolutions before them: fewer nodes, same numbers to about 5e-6.

In evaluation a batch norm is `y = x * scale + shift` per channel, and a convolution can take that
into its weights. The backbone's batch norms vanish; of each IBNorm only the instance half stays.
"""

import copy

import torch
from torch import Tensor, nn

from training.network.modnet import Conv2dIBNormRelu, IBNorm
from training.network.networks import Network


class InstanceHalfNorm(nn.Module):
    """What is left of an IBNorm: the first channels pass, the others are instance-normalised."""

    def __init__(self, norm: IBNorm) -> None:
        super().__init__()
        self.passed_channels = norm.bnorm_channels
        self.inorm = norm.inorm

    def forward(self, x: Tensor) -> Tensor:
        passed, rest = x[:, : self.passed_channels], x[:, self.passed_channels :]
        return torch.cat([passed, self.inorm(rest)], dim=1)


def fold_norms(model: Network) -> Network:
    """Return a copy of the network, for evaluation only, with every batch norm folded away."""
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        if isinstance(module, Conv2dIBNormRelu) and len(module.layers) > 1:
            convolution, norm = module.layers[0], module.layers[1]
            fold_into(convolution, norm.bnorm)
            module.layers[1] = InstanceHalfNorm(norm)
        elif isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                convolution, norm = module[index], module[index + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    fold_into(convolution, norm)
                    module[index + 1] = nn.Identity()
    return folded


@torch.no_grad()
def fold_into(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Multiply the norm into the first `norm.num_features` output channels of the convolution."""
    weight = convolution.weight.double()  # (C_out, C_in, K, K)
    if convolution.bias is None:
        bias = torch.zeros(weight.shape[0], dtype=torch.float64)
    else:
        bias = convolution.bias.double()
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    mean, shift = norm.running_mean.double(), norm.bias.double()
    channels = norm.num_features
    weight[:channels] *= scale[:, None, None, None]
    bias[:channels] = (bias[:channels] - mean) * scale + shift
    dtype = convolution.weight.dtype
    convolution.weight = nn.Parameter(weight.to(dtype))
    convolution.bias = nn.Parameter(bias.to(dtype))
