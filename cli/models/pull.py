"""`matte models pull NAME`: fetch, verify and convert the official MODNet weights.

They are their authors' (Ke et al.), under Apache-2.0; nothing of them is part of this project.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cli.models.download import DownloadError, RemoteFile, download
from export.__main__ import export
from training.commands.common import EXIT_INTERRUPTED, fail

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


def pull(
    name: Annotated[
        Literal["photographic", "webcam"],
        typer.Argument(help="photographic: stills; webcam: video"),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", show_default="the current one", help="for the files")
    ] = Path(),
) -> None:
    """Fetch the official weights, verify their SHA-256 and convert them to ONNX."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint = fetch(WEIGHTS[name], out)
    except DownloadError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or out}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("interrupted; the next call goes on from here", code=EXIT_INTERRUPTED)
    print(f"{checkpoint}: SHA-256 verified")
    export(checkpoint, out / f"modnet-{name}.onnx", name=f"modnet-{name}", ref_size=REF_SIZE)


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Download the file with a progress bar on stderr."""
    columns = (TextColumn(file.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task("", total=file.size_bytes)
        return download(file, folder, lambda done: progress.update(task, completed=done))
