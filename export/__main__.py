"""`python -m export CHECKPOINT OUT.onnx`: checkpoint in, one verified ONNX file and its report out.

The report is written beside the ONNX file as OUT.json. Both appear at the end and only if
everything went well; a failure is one line on stderr and exit code 1 (2 for a wrong command line).
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from export import ExportError
from training.commands.common import EXIT_INTERRUPTED, check_multiple, fail


def check_ref_size(value: int) -> int:
    return check_multiple(value, 32)


def check_two_sizes(value: str | None) -> str | None:
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{value} is not two sizes, 256,384")
    first, second = (check_ref_size(int(part)) for part in parts)
    if first >= second:
        raise typer.BadParameter(f"{value}: the smaller size comes first")
    return value


def export(
    checkpoint: Annotated[Path, typer.Argument(help=".ckpt, .pt, .pth or .npz")],
    out: Annotated[Path, typer.Argument(help="OUT.onnx; the report goes to OUT.json beside it")],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", show_default="modnet, the fast network modnet-fast", help="in the API"
        ),
    ] = None,
    version: Annotated[str, typer.Option(metavar="TEXT", help="of the weights")] = "1",
    ref_size: Annotated[
        int,
        typer.Option(
            callback=check_ref_size,
            help="shorter side in pixels at which the weights work best, a multiple of 32",
        ),
    ] = 512,
    photo_ref_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            callback=check_two_sizes,
            show_default="one pass",
            help="the same of two passes over a photo: what is the person, and its outline",
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(metavar="SPDX", help="of the weights, an SPDX name")
    ] = "Apache-2.0",
    precision: Annotated[Literal["fp32", "fp16"], typer.Option(help="fp16 is for CUDA")] = "fp32",
    uint8_input: Annotated[
        bool, typer.Option("--uint8-input", help="take pixels as they are; for GPUs")
    ] = False,
) -> None:
    """Turn a checkpoint into one verified ONNX file."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        # Imported here: torch takes seconds, and `--help` or a slip of the pen need not wait.
        from export.pipeline import Options, export_checkpoint

        options = Options(
            checkpoint,
            out,
            name,
            version,
            ref_size,
            licence,
            precision,
            uint8_input,
            photo_ref_sizes,
        )
        export_checkpoint(options, console)
    except ExportError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{out}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("interrupted, nothing written", code=EXIT_INTERRUPTED)


if __name__ == "__main__":
    typer.run(export)
