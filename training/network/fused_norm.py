"""Norms fused with the ReLU behind them, for training on a CPU: the same numbers in less time.

In bfloat16 the pieces of an IBNorm cost torch more than the convolutions between them. The kernel
is `fused_norm.cpp`, a torch extension built at first use; without a compiler nothing is fused.
"""

import hashlib
import math
import os
import subprocess
import tempfile
import types
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils import cpp_extension

from training.network.modnet import IBNorm

SOURCE = Path(__file__).with_name("fused_norm.cpp")
HEADER = SOURCE.with_suffix(".h")
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-std=c++20")
NO_ACTIVATION = 0.0
TOPS = {nn.ReLU: math.inf, nn.ReLU6: 6.0}


class BuildError(RuntimeError):
    """The kernel cannot be built here; the message is one line."""


def fuse_norms(model: nn.Module) -> int:
    """Fuse each norm of a Sequential with the activation behind it, in place; return how many.

    Parameters, keys and evaluation stay as they are. The model must be on the CPU and channels_last
    is what the kernel works in. Raises BuildError.
    """
    load_kernel()
    count = 0
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for index, norm in enumerate(sequence):
            if isinstance(norm, IBNorm | nn.BatchNorm2d):
                following = sequence[index + 1] if index + 1 < len(sequence) else None
                activation = following if type(following) in TOPS else nn.Identity()
                if activation is following:
                    sequence[index + 1] = nn.Identity()
                norm.forward = types.MethodType(make_forward(activation), norm)
                count += 1
    return count


def make_forward(activation: nn.Module):
    """Return the `forward` of a norm that ends with the activation."""
    top = TOPS.get(type(activation), NO_ACTIVATION)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        batch = self.bnorm if isinstance(self, IBNorm) else self
        if not batch.training:
            # What learns nothing in evaluation: a frozen block of a network in training.
            if isinstance(self, IBNorm) or not is_frozen(batch, x):
                return activation(type(self).forward(self, x))
            return apply_frozen(batch, x, top)
        batch.num_batches_tracked += 1
        return FusedNorm.apply(x, batch.weight, batch.bias, batch, top)

    return forward


def is_frozen(batch: nn.BatchNorm2d, x: Tensor) -> bool:
    """Say whether a norm needs no gradient though others do."""
    needs_none = not (x.requires_grad or batch.weight.requires_grad or batch.bias.requires_grad)
    return torch.is_grad_enabled() and needs_none and x.device.type == "cpu"


def apply_frozen(batch: nn.BatchNorm2d, x: Tensor, top: float) -> Tensor:
    """Return what the norm makes of `x` in evaluation, with the activation behind it."""
    scale = batch.weight / torch.sqrt(batch.running_var + batch.eps)
    factors = torch.stack([batch.running_mean, scale, batch.bias])
    return torch.ops.matting.norm_apply(
        x.contiguous(memory_format=torch.channels_last), factors, top
    )


class FusedNorm(torch.autograd.Function):
    """The kernel with its exact gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, batch: nn.BatchNorm2d, top: float):
        x = x.contiguous(memory_format=torch.channels_last)
        running = batch.running_mean, batch.running_var
        y, factors = torch.ops.matting.norm_forward(
            x, weight, bias, *running, batch.momentum, batch.eps, top
        )
        ctx.save_for_backward(x, factors)
        ctx.batch_channels, ctx.top = batch.num_features, top
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, factors = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        gradients = torch.ops.matting.norm_backward(
            x, gradient, factors, ctx.batch_channels, ctx.top
        )
        return *gradients, None, None


def load_kernel() -> None:
    """Make `torch.ops.matting` known; builds the library if this machine has none yet."""
    if hasattr(torch.ops.matting, "norm_forward"):
        return
    # A library for one source, one torch and one kind of processor.
    processor = next(iter(read_lines(Path("/proc/cpuinfo"), "flags")), "")
    text = repr((SOURCE.read_bytes(), HEADER.read_bytes(), FLAGS, torch.__version__, processor))
    name = f"fused-norm-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matting-service"
    library = cache / name
    if not library.exists():
        build(library)
    torch.ops.load_library(library)


def read_lines(path: Path, start: str) -> list[str]:
    """Return the lines of a file that begin so; none if there is no such file."""
    if not path.is_file():
        return []
    return [line for line in path.read_text().splitlines() if line.startswith(start)]


def build(library: Path) -> None:
    """Compile the kernel, some ten seconds; the file appears whole or not at all."""
    compiler = os.environ.get("CXX", "c++")
    includes = [f"-I{path}" for path in cpp_extension.include_paths()]
    places = [f"-L{path}" for path in cpp_extension.library_paths()]
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            part = Path(folder) / library.name
            command = [compiler, *FLAGS, "-fPIC", "-shared", *includes, str(SOURCE), "-o", part]
            command += [*places, "-ltorch", "-ltorch_cpu", "-lc10"]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(part, library)
    except OSError as error:
        raise BuildError(f"{error.filename or compiler}: {error.strerror or error}") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        raise BuildError(f"{compiler}: {(lines or ['failed'])[0]}") from error
