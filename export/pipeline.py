"""The stages of an export: load, fold, export, halve or take pixels if asked for, verify.

Both files appear at the very end.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from export import ExportError
from export.pixels import take_pixels
from export.precision import halve
from export.to_onnx import MatteOnly, Metadata, fold, write_onnx
from export.verify import verify
from training.network.checkpoint import CheckpointError, build_model, read_checkpoint

DEFAULT_NAMES = {"modnet": "modnet", "fast": "modnet-fast"}  # by the name of the network


@dataclass(frozen=True)
class Options:
    """What the command line says, field for field; without a name the network's own is taken."""

    checkpoint: Path
    out: Path
    name: str | None
    version: str
    ref_size: int
    licence: str
    precision: str
    uint8_input: bool = False
    photo_ref_sizes: str | None = None


def export_checkpoint(options: Options, console: Console) -> None:
    """Write `options.out` and its report, or raise ExportError or OSError and write neither."""
    out, report_path = options.out, options.out.with_suffix(".json")
    if out.suffix != ".onnx":
        raise ExportError(f"{out}: the output must end in .onnx")
    for target in (out, report_path):
        if target.is_dir():
            raise ExportError(f"{target}: is a folder")
    # In the target folder, so that the final moves cannot cross file systems; opened first, so
    # that a folder that cannot be written is known before the long part.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as folder:
        onnx_path, json_path = Path(folder) / "model.onnx", Path(folder) / "report.json"
        with stage(console, "load"):
            try:
                checkpoint = read_checkpoint(options.checkpoint)
                model = build_model(checkpoint)
            except CheckpointError as error:
                raise ExportError(str(error)) from error
            channels = model.architecture["in_channels"]
            if channels not in (3, 4):
                problem = f"takes {channels} channels; 3 (RGB) or 4 (and a trimap) can be served"
                raise ExportError(f"{options.checkpoint}: {problem}")
            if options.uint8_input and channels != 3:
                problem = "takes a trimap, which is not a picture: leave out --uint8-input"
                raise ExportError(f"{options.checkpoint}: {problem}")
        metadata = Metadata(
            name=options.name or DEFAULT_NAMES[model.name],
            version=options.version,
            sha256=checkpoint.sha256,
            ref_size=str(options.ref_size),
            licence=options.licence,
            precision=options.precision,
            photo_ref_sizes=options.photo_ref_sizes,
        )
        with stage(console, "fold"):
            network = fold(model)
        with stage(console, "export"):
            write_onnx(network, onnx_path, metadata)
        if options.precision == "fp16":
            with stage(console, "halve"):
                halve(onnx_path)
        if options.uint8_input:
            with stage(console, "pixels"):
                take_pixels(onnx_path, float(metadata.mean), float(metadata.std))
        with stage(console, "verify"):
            # Against the network as it was read, so that a mistake in folding shows too.
            original = MatteOnly(model)
            name = checkpoint.path.name
            report = verify(original, onnx_path, name, metadata, out.name, options.uint8_input)
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        os.replace(onnx_path, out)
        os.replace(json_path, report_path)
    console.print(f"{out}: within {report['max_abs']:.1e} of the checkpoint, see {report_path}")


@contextmanager
def stage(console: Console, name: str) -> Iterator[None]:
    """Show a spinner while a stage runs (on a terminal) and a line with its time afterwards."""
    start = time.monotonic()
    with console.status(name):
        yield
    console.print(f"{name:<8}{time.monotonic() - start:6.1f} s")
