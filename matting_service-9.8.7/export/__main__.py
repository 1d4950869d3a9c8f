"""`python -m export CHECKPOINT OUT.onnx`: checkpoint in, one verified ONNX file and its report out.

The report is written beside the ONNX file as OUT.json. Both appear at the end and only if
everything went well; a failure is one line on stderr and exit code 1 (2 for a wrong command line).
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from export import ExportError
from training.commands.common import fail


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        # Imported here: torch takes seconds, and `--help` or a slip of the pen need not wait.
        from export.pipeline import Options, export_checkpoint

        export_checkpoint(Options(**vars(arguments)), console)
    except ExportError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{arguments.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted, nothing written", code=130)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; its destinations are the fields of export.pipeline.Options."""
    parser = argparse.ArgumentParser(
        prog="python -m export", description="Turn a checkpoint into one verified ONNX file."
    )
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("checkpoint", type=Path, help=".ckpt, .pt, .pth or .npz")
    add("out", type=Path, help="OUT.onnx; the report goes to OUT.json beside it")
    add("--name", help="of the model in the API (default: modnet, the fast network modnet-fast)")
    add("--version", default="1", help=f"version of the weights {default}")
    add(
        "--ref-size",
        type=parse_ref_size,
        default=512,
        help=f"shorter side in pixels at which the weights work best {default}",
    )
    add("--licence", default="Apache-2.0", help=f"of the weights, an SPDX name {default}")
    add("--precision", choices=["fp32", "fp16"], default="fp32", help=f"fp16 is for CUDA {default}")
    return parser


def parse_ref_size(text: str) -> int:
    """Return a ref_size: a multiple of 32, at least 32."""
    if not text.isdecimal() or int(text) % 32 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive multiple of 32")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
