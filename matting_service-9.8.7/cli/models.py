"""`matte models`: fetch the official MODNet weights, or describe a network of others.

`pull NAME` fetches, verifies and converts the weights. They are their authors' (Ke et al.), under
Apache-2.0; nothing of them is part of this project.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cli.download import DownloadError, RemoteFile, download
from cli.models_add import add_model, add_parser
from export.__main__ import main as export
from training.commands.common import fail

SIZE_BYTES = 26_255_603
REF_SIZE = 512  # the size the authors trained at
OPEN_MODEL_ZOO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.2"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="

WEIGHTS = {
    "photographic": RemoteFile(
        name="modnet_photographic_portrait_matting.ckpt",
        size_bytes=SIZE_BYTES,
        sha256="7c22235f0925deba15d4d63e53afcb654c47055bbcd98f56e393ab2584007ed8",
        urls=(
            "https://github.com/xinntao/facexlib/releases/download/v0.2.0/"
            "matting_modnet_portrait.pth",
            f"{OPEN_MODEL_ZOO}/modnet-photographic-portrait-matting/"
            "modnet_photographic_portrait_matting.ckpt",
            f"{DRIVE}1mcr7ALciuAsHCpLnrtG_eop5-EYhbCmz",
        ),
    ),
    "webcam": RemoteFile(
        name="modnet_webcam_portrait_matting.ckpt",
        size_bytes=SIZE_BYTES,
        sha256="913b82b66558db39b6286c150f809017d7528c872b156eb14333c9c6cb52108b",
        urls=(
            f"{OPEN_MODEL_ZOO}/modnet-webcam-portrait-matting/modnet_webcam_portrait_matting.ckpt",
            "https://github.com/clibdev/MODNet/releases/latest/download/modnet-webcam.pt",
            f"{DRIVE}1Nf1ZxeJZJL8Qx9KadcYYyEmmlKhTADxX",
        ),
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    if arguments.verb == "add":
        return add_model(arguments)
    try:
        return pull(arguments.name, arguments.out)
    except DownloadError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted; the next call goes on from here", code=130)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `matte models`."""
    parser = argparse.ArgumentParser(prog="matte models", description="Get networks to serve.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    pull = verbs.add_parser(
        "pull",
        help="fetch, verify and convert",
        description="Fetch the official weights, verify their SHA-256 and convert them to ONNX.",
    )
    pull.add_argument("name", choices=WEIGHTS, help="photographic: stills; webcam: video")
    help = "folder for the .ckpt and the .onnx (default: the current one)"
    pull.add_argument("--out", type=Path, default=Path(), metavar="DIR", help=help)
    add_parser(verbs)
    return parser


def pull(name: str, folder: Path) -> int:
    """Fetch and convert the weights; return the exporter's exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = fetch(WEIGHTS[name], folder)
    print(f"{checkpoint}: SHA-256 verified")
    onnx = folder / f"modnet-{name}.onnx"
    options = ["--name", f"modnet-{name}", "--ref-size", str(REF_SIZE)]
    return export([str(checkpoint), str(onnx), *options])


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Download the file with a progress bar on stderr."""
    columns = (TextColumn(file.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task("", total=file.size_bytes)
        return download(file, folder, lambda done: progress.update(task, completed=done))


if __name__ == "__main__":
    sys.exit(main())
