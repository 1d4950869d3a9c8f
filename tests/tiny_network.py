"""A network with MODNet's topology and an eighth of its channels, exported by the real command."""

import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from cli.__main__ import main as matte
from training.network.checkpoint import save_checkpoint
from training.network.modnet import MODNet

REF_SIZE = 128


@dataclass(frozen=True)
class TinyExport:
    """The bytes of a checkpoint (.pt), of its ONNX file and of the report (.json)."""

    checkpoint: bytes
    onnx: bytes
    report: bytes


def make_tiny_model(seed: int = 0, in_channels: int = 3) -> MODNet:
    """Return the network in evaluation mode; its batch norms do something, unlike fresh ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODNet(in_channels, width=0.125, hr_channels=4).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
                torch.nn.init.normal_(module.weight, mean=1, std=0.1)
                torch.nn.init.normal_(module.bias, std=0.05)
    return model


@functools.cache
def export_tiny_bytes(seed: int, in_channels: int = 3) -> TinyExport:
    """Run the export command once per seed, for all workers of a test run: it takes 20 seconds."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return run_export(seed, in_channels)
    folder = Path(tempfile.gettempdir()) / f"tiny-network-{run}-{seed}-{in_channels}"
    names = [folder / name for name in ("tiny.pt", "tiny.onnx", "tiny.json")]
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            tiny = run_export(seed, in_channels)
            folder.mkdir()
            for name, content in zip(names, (tiny.checkpoint, tiny.onnx, tiny.report), strict=True):
                name.write_bytes(content)
        return TinyExport(*(name.read_bytes() for name in names))


def run_export(seed: int, in_channels: int) -> TinyExport:
    """Run the export command."""
    # Without its cache the tracer is a fifth faster on a network that small.
    quicker = torch._dynamo.config.patch(fake_tensor_cache_enabled=False)
    with tempfile.TemporaryDirectory() as folder, quicker:
        checkpoint, out = Path(folder) / "tiny.pt", Path(folder) / "tiny.onnx"
        save_checkpoint(checkpoint, make_tiny_model(seed, in_channels))
        arguments = [str(checkpoint), str(out), "--name", "tiny", "--ref-size", str(REF_SIZE)]
        assert matte(["export", *arguments]) == 0
        report = out.with_suffix(".json")
        return TinyExport(checkpoint.read_bytes(), out.read_bytes(), report.read_bytes())


def export_tiny(path: Path, seed: int = 0, in_channels: int = 3) -> Path:
    """Write the tiny network to `path` (.onnx), its report and its checkpoint beside it."""
    tiny = export_tiny_bytes(seed, in_channels)
    path.write_bytes(tiny.onnx)
    path.with_suffix(".json").write_bytes(tiny.report)
    path.with_suffix(".pt").write_bytes(tiny.checkpoint)
    return path
