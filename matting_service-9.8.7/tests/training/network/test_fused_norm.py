import copy
import math

import pytest
import torch
from torch import nn

from training.network.fused_norm import SOURCE, BuildError, build, fuse_norms
from training.network.modnet import IBNorm, MODNet

SHAPE = (3, 10, 37, 11)  # more pixels than a block of the kernel's sums


def make_sequence(norm: nn.Module, activation: type[nn.Module] | None) -> nn.Sequential:
    batch = getattr(norm, "bnorm", norm)
    nn.init.normal_(batch.weight)
    nn.init.normal_(batch.bias)
    return nn.Sequential(norm, *([activation()] if activation else []))


def step(sequence: nn.Sequential, x: torch.Tensor, gradient: torch.Tensor) -> dict:
    """Return all that comes out of one step of training, float64."""
    x = x.clone().requires_grad_()
    y = sequence(x)
    y.backward(gradient.to(y))
    found = {"y": y.detach(), "x": x.grad}
    found |= {name: parameter.grad for name, parameter in sequence.named_parameters()}
    found |= dict(sequence.named_buffers())
    return {name: value.double() for name, value in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, IBNorm])
def test_kernel_equals_the_modules_in_float64(norm, activation, dtype):
    torch.manual_seed(3)
    plain = make_sequence(norm(SHAPE[1]), activation)
    fused = copy.deepcopy(plain)
    assert fuse_norms(fused) == 1
    x = (3 * torch.randn(SHAPE) + 2).to(dtype)
    gradient = torch.randn(SHAPE).to(dtype)
    expected = step(plain.double(), x.double(), gradient)
    found = step(fused, x, gradient)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Outputs and gradients of bfloat16 are rounded to 8 bits, sums are not.
        is_rounded = dtype == torch.bfloat16 and name in ("y", "x")
        error = (found[name] - value).abs().max() / value.abs().max().clamp(min=1)
        assert error < (2**-8 if is_rounded else 3e-6), name


def test_kernel_takes_any_layout_and_lets_nan_through():
    torch.manual_seed(3)
    fused = make_sequence(IBNorm(4), nn.ReLU)
    fuse_norms(fused)
    x = torch.randn(2, 4, 6, 6)
    layouts = [x, x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT]
    results = [fused(layout) for layout in layouts]
    assert all(torch.equal(results[0], result) for result in results[1:])
    x[0, 0, 0, 0] = math.nan
    assert fused(x)[:, 0].isnan().all()


def test_fused_network_keeps_its_keys_and_its_evaluation():
    torch.manual_seed(3)
    plain = MODNet(width=0.125, hr_channels=4).eval()
    fused = copy.deepcopy(plain)
    norms = [m for m in plain.modules() if isinstance(m, IBNorm | nn.BatchNorm2d)]
    inside = sum(isinstance(norm, IBNorm) for norm in norms)  # each holds a batch norm
    assert fuse_norms(fused) == len(norms) - inside
    assert fused.state_dict().keys() == plain.state_dict().keys()
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        assert torch.equal(fused(image)[2], plain(image)[2])


def test_missing_compiler_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="^no-such-compiler: No such file or directory$"):
        build(tmp_path / "kernel.so")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(BuildError, match="^false: failed$"):
        build(tmp_path / "kernel.so")
    assert SOURCE.is_file() and not list(tmp_path.iterdir())
