"""`python -m export CHECKPOINT OUT.onnx`: checkpoint in, one verified ONNX file and its report out.

The report is written beside the ONNX file as OUT.json. Both appear at the end and only if
everything went well; a failure is one line on stderr and exit code 1 (2 for a wrong command line).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from export.to_onnx import MatteOnly, Metadata, fold, write_onnx
from export.verify import VerificationError, verify
from training.checkpoint import CheckpointError, build_model, read_checkpoint


class ExportError(ValueError):
    """The export cannot go on; the message is one line for the person at the command line."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    console = Console(soft_wrap=True, highlight=False)
    try:
        export_checkpoint(arguments, console)
    except (ExportError, CheckpointError, VerificationError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted, nothing written", code=130)
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export", description="Turn a checkpoint into one verified ONNX file."
    )
    parser.add_argument("checkpoint", type=Path, help=".ckpt, .pt, .pth or .npz")
    parser.add_argument("out", type=Path, help="OUT.onnx; the report goes to OUT.json")
    parser.add_argument("--name", default="modnet", help="name in the API (default: %(default)s)")
    parser.add_argument("--version", default="1", help="of the weights (default: %(default)s)")
    parser.add_argument(
        "--ref-size",
        type=parse_ref_size,
        default=512,
        help="shorter side in pixels at which the weights work best (default: %(default)s)",
    )
    parser.add_argument(
        "--licence", default="Apache-2.0", help="of the weights, an SPDX name (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=["fp32"], default="fp32")
    return parser


def parse_ref_size(text: str) -> int:
    """Return a ref_size: a multiple of 32 from 32 on."""
    if not text.isdecimal() or int(text) % 32 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive multiple of 32")
    return int(text)


def export_checkpoint(arguments: argparse.Namespace, console: Console) -> None:
    """Do the work: load, fold, export, verify, then move both files into place."""
    out: Path = arguments.out
    report_path = out.with_suffix(".json")
    if out.suffix != ".onnx":
        raise ExportError(f"{out}: the output must end in .onnx")
    for target in (out, report_path):
        if target.is_dir():
            raise ExportError(f"{target}: is a folder")
    with stage(console, "load"):
        checkpoint = read_checkpoint(arguments.checkpoint)
        model = build_model(checkpoint)
        if model.architecture["in_channels"] != 3:
            raise ExportError(f"{arguments.checkpoint}: takes more than an RGB image")
    metadata = Metadata(
        name=arguments.name,
        version=arguments.version,
        sha256=checkpoint.sha256,
        ref_size=str(arguments.ref_size),
        licence=arguments.licence,
        precision=arguments.precision,
    )
    # In the target folder, so that the final moves cannot cross file systems; opened before the
    # long part, so that a folder that cannot be written is known at once.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as folder:
        onnx_path, json_path = Path(folder) / "model.onnx", Path(folder) / "report.json"
        with stage(console, "fold"):
            network = fold(model)
        with stage(console, "export"):
            write_onnx(network, onnx_path, metadata)
        with stage(console, "verify"):
            report = verify(MatteOnly(model), onnx_path, checkpoint.path.name, metadata, out.name)
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        os.replace(onnx_path, out)
        os.replace(json_path, report_path)
    console.print(f"{out}: within {report['max_abs']:.1e} of the checkpoint, report in {report_path}")


@contextmanager
def stage(console: Console, name: str) -> Iterator[None]:
    """Show a spinner while a stage runs (on a terminal) and a line with its time afterwards."""
    start = time.monotonic()
    with console.status(name):
        yield
    console.print(f"{name:<8}{time.monotonic() - start:6.1f} s")


def fail(message: str, code: int = 1) -> int:
    """Print the message as a single line on stderr; return the exit code."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
