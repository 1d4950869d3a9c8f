"""`matte image IN OUT`: matte one photo."""

import asyncio
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.flags import (
    HINT_HELP,
    BackgroundFile,
    DeviceName,
    Force,
    Key,
    ModelName,
    Server,
    add_option_flags,
    list_given,
)
from cli.local import (
    Place,
    cancel_on_signals,
    make_folder,
    refuse_overwriting,
    report_errors,
)
from cli.stills.backend import StillResult, open_backend
from cli.stills.request import NO_FLAG, StillRequest, make_request
from service.errors import InvalidOption
from service.stills.options import ImageOptions

PIPE = Path("-")


@add_option_flags(ImageOptions, leave_out=NO_FLAG)
def image(
    photo: Annotated[
        Path, typer.Argument(metavar="IN", help="JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP; -: stdin")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="a file, whose suffix chooses the format; a folder; -: stdout"
        ),
    ],
    force: Force = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="one line of JSON about the result; with OUT - on stderr")
    ] = False,
    model: ModelName = None,
    device: DeviceName = None,
    background_file: BackgroundFile = None,
    trimap_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="for a model that takes a trimap")
    ] = None,
    hint_file: Annotated[Path | None, typer.Option(metavar="FILE", help=HINT_HELP)] = None,
    server: Server = None,
    key: Key = None,
    **options: Any,
) -> None:
    """Matte one photo: the alpha matte, the person cut out, or the person over something else.

    Options are those of POST /v1/image. `--background` and `--background-file` alone ask for
    `--output composite`.
    """
    with report_errors(out, "interrupted; nothing was written"):
        place = Place(model, device, server, key)
        is_file = out != PIPE and not out.is_dir()
        request = make_request(
            list_given(options) | place.options,
            suffix=out.suffix or "." if is_file else "",
            background=background_file,
            trimap=trimap_file,
            hint=hint_file,
        )
        target = choose_target(photo, out, request)
        refuse_overwriting([target] if target != PIPE else [], force)
        content = sys.stdin.buffer.read() if photo == PIPE else read_photo(photo)
        result = asyncio.run(run(place, content, request))
        write(result, target, force)
    say = sys.stderr if target == PIPE else sys.stdout
    if as_json:
        path = None if target == PIPE else str(target)
        told = {"path": path, "bytes": len(result.content), "content_type": result.content_type}
        print(json.dumps(told | result.metadata), file=say)
    elif target != PIPE:
        print("\n".join(f"{name:<22}{text}" for name, text in summarise(result, target)))


def read_photo(photo: Path) -> bytes:
    """Return the content of a file; raises OSError."""
    if photo.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "is a folder; `matte folder` takes folders", str(photo)
        )
    return photo.read_bytes()


def choose_target(photo: Path, out: Path, request: StillRequest) -> Path:
    """Return where the result goes, PIPE for standard output; raises InvalidOption."""
    if out == PIPE:
        if sys.stdout.isatty():
            raise InvalidOption("OUT is - and standard output is a terminal", hint="redirect it")
        return out
    if not out.is_dir():
        return out
    if photo == PIPE:
        raise InvalidOption("a photo of standard input has no name", hint="name a file as OUT")
    return out / (photo.stem + request.suffix)


async def run(place: Place, content: bytes, request: StillRequest) -> StillResult:
    """Matte the photo; SIGTERM and SIGHUP cancel, as Ctrl-C."""
    cancel_on_signals()
    async with open_backend(place, photos=1) as backend:
        return await backend.matte(content, request)


def write(result: StillResult, target: Path, force: bool) -> None:
    """Write the result, a file whole or not at all."""
    if target == PIPE:
        sys.stdout.buffer.write(result.content)
        sys.stdout.buffer.flush()
        return
    with make_folder(target.parent) as folder:
        part = Path(folder) / target.name
        part.write_bytes(result.content)
        refuse_overwriting([target], force)
        os.replace(part, target)


def summarise(result: StillResult, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table: a name and a text each."""
    told = result.metadata
    yield "written", f"{target} ({len(result.content):,} bytes)"
    yield "size", f"{told['width']} x {told['height']}"
    if "model" in told:
        yield "network", f"{told['model']}, {told['provider']}"
        yield "person", f"{'yes' if told['person'] else 'no'}, confidence {told['confidence']:.2f}"
    for note in told.get("notes", ()):
        yield "note", note
