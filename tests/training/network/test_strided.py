import copy

import pytest
import torch
from torch import nn

from training.network.fast import FastNet
from training.network.modnet import MODNet
from training.network.strided import speed_up_strided


def make_conv(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(8, 12), (7, 11), (1, 2)], ids=str)
def test_gradients_equal_torchs_in_float64(size, dtype):
    torch.manual_seed(3)
    plain = make_conv(5).to(dtype)
    fast = copy.deepcopy(plain)
    assert speed_up_strided(fast) == 1
    x = torch.randn(2, 5, *size).to(dtype).contiguous(memory_format=torch.channels_last)
    results = []
    for conv, pixels in ((plain.double(), x.double()), (fast, x)):
        pixels = pixels.clone().requires_grad_()
        y = conv(pixels)
        y.backward(torch.linspace(-1, 1, y.numel()).view_as(y).to(dtype).to(y))
        results.append([y.detach().double(), pixels.grad.double(), conv.weight.grad.double()])
    for expected, found in zip(*results, strict=True):
        error = (found - expected).abs().max() / expected.abs().max().clamp(min=1)
        assert error < (2**-7 if dtype == torch.bfloat16 else 1e-6)


def test_autocast_and_frozen_inputs():
    conv = make_conv(4)
    speed_up_strided(conv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(torch.randn(1, 4, 6, 6))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
    assert copy.deepcopy(conv)(torch.zeros(1, 4, 6, 6)).abs().max() == 0


@pytest.mark.parametrize("network", [MODNet, FastNet])
def test_networks_have_four_of_them(network):
    with torch.device("meta"):
        assert speed_up_strided(network()) == 4
