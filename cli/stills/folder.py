"""`matte folder IN OUT`: matte every photo of a folder, and go on where an earlier run ended."""

import asyncio
import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
from cli.local import Place, cancel_on_signals, explain, report_errors
from cli.screen import open_progress
from cli.stills.backend import Backend, open_backend
from cli.stills.journal import Journal
from cli.stills.request import NO_FLAG, StillRequest, make_request
from cli.stills.tree import PHOTOS, Photo, check_folder, check_folders, find_beside, find_photos
from service.errors import MattingError
from service.inference.providers import count_threads
from service.stills.options import ImageOptions
from training.commands.common import fail

MOST_AT_ONCE = 8  # more would hold as many large photos in memory
REPORT = "report.jsonl"


@dataclass
class Counts:
    """What has become of the photos of a run."""

    done: int = 0
    skipped: int = 0
    failed: int = 0


@dataclass
class Run:
    """One run over a folder: what is asked for, where, and how far it is."""

    source: Path
    out: Path
    report: Path
    request: StillRequest
    jobs: int
    force: bool
    trimaps: Path | None = None
    hints: Path | None = None
    counts: Counts = field(default_factory=Counts)


@add_option_flags(ImageOptions, leave_out=NO_FLAG)
def folder(
    source: Annotated[Path, typer.Argument(metavar="IN", help="a folder of photos, of any depth")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="the folder for the results, made where missing")
    ],
    jobs: Annotated[
        int | None,
        typer.Option(min=1, show_default="one per core, at most 8", help="photos at once"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=f"{REPORT} in OUT", help="a line of JSON for each photo"
        ),
    ] = None,
    force: Force = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the counts as one line of JSON")
    ] = False,
    model: ModelName = None,
    device: DeviceName = None,
    background_file: BackgroundFile = None,
    trimap_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="trimaps under the photos' names, for a model that takes them"
        ),
    ] = None,
    hint_folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"{HINT_HELP}; under the photos' names, where there are"),
    ] = None,
    server: Server = None,
    key: Key = None,
    **options: Any,
) -> None:
    """Matte every photo of a folder into another one, under the same names.

    The same command goes on after an interruption: photos that were done with the same options and
    have not changed are skipped. Exit code 1 when some failed; the report says why.
    """
    with report_errors(out, "interrupted; the same command goes on from here"):
        place = Place(model, device, server, key)
        request = make_request(list_given(options) | place.options, background=background_file)
        check_folders(source, out)
        work = Run(
            source,
            out,
            report or out / REPORT,
            request,
            jobs or min(count_threads(), MOST_AT_ONCE),
            force,
            check_folder(trimap_folder),
            check_folder(hint_folder),
        )
        asyncio.run(run(work, place))
    counts = work.counts
    if as_json:
        print(json.dumps(vars(counts) | {"report": str(work.report)}))
    else:
        print(
            f"{counts.done} photos done, {counts.skipped} skipped as done before, "
            f"{counts.failed} failed; report: {work.report}"
        )
    if counts.failed:
        raise typer.Exit(1)


async def run(work: Run, place: Place) -> None:
    """Matte the photos, `jobs` at once; raises MattingError, OSError."""
    cancel_on_signals()
    photos = find_photos(work.source, work.out, work.request.suffix)
    if not photos:
        fail(f"{work.source}: there are no photos in it; their names end in {', '.join(PHOTOS)}")
    async with open_backend(place, photos=work.jobs) as backend:
        network = await backend.identify(work.request, has_trimaps=work.trimaps is not None)
        identity = identify(work.request, network)
        beside = work.trimaps, work.hints
        with Journal(work.source, work.out, work.report, identity, beside) as journal:
            waiting = [one for one in photos if work.force or not journal.is_done(one)]
            work.counts.skipped = len(photos) - len(waiting)
            with show_progress(len(photos), work.counts.skipped) as progress:
                await share_out(work, backend, journal, waiting, progress)
            journal.finish(photo.file for photo in photos)


async def share_out(
    work: Run, backend: Backend, journal: Journal, photos: list[Photo], progress: "Bar"
) -> None:
    """Matte the photos, `jobs` at once."""
    waiting = iter(photos)

    async def matte_photos() -> None:
        for photo in waiting:
            await matte_photo(work, backend, journal, photo, progress)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(work.jobs):
                group.create_task(matte_photos())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def matte_photo(
    work: Run, backend: Backend, journal: Journal, photo: Photo, progress: "Bar"
) -> None:
    """Matte one photo; what is wrong with it goes into the report."""
    try:
        if journal.is_foreign(photo) and not work.force:
            name = str(photo.result)
            raise FileExistsError(errno.EEXIST, "is there already; --force overwrites", name)
        content, source = await asyncio.to_thread(journal.read, photo)
        request = await asyncio.to_thread(add_files, work, photo)
        result = await backend.matte(content, request)
    except MattingError as error:
        problem, text = error.describe(), explain(error)
    except OSError as error:
        text = f"{error.filename or photo.file}: {error.strerror or error}"
        problem = {"detail": text}
    else:
        await asyncio.to_thread(journal.write, photo, source, result.content, result.metadata)
        work.counts.done += 1
        progress.advance()
        return
    journal.fail(photo, problem)
    work.counts.failed += 1
    progress.say(f"error: {photo.file}: {text}")
    progress.advance()


def add_files(work: Run, photo: Photo) -> StillRequest:
    """Return the request with the photo's own trimap and hint; raises MattingError, OSError."""
    files = {"trimap": work.trimaps, "hint": work.hints}
    found = {name: find_beside(folder, photo.file) for name, folder in files.items()}
    content = {name: path.read_bytes() for name, path in found.items() if path is not None}
    return replace(work.request, **content)


def identify(request: StillRequest, network: str) -> str:
    """Return what stands for the options, the background and the network, 16 hex digits."""
    told = request.options.model_dump(mode="json") | {"format": request.format}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(request.background or b"")
    digest.update(network.encode())
    return digest.hexdigest()[:16]


class Bar:
    """The progress bar on a terminal; what is said goes above it."""

    def __init__(self, progress: Progress, photos: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task("photos", total=photos, completed=done)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_progress(photos: int, done: int) -> Iterator[Bar]:
    """Show how many photos are done, and for how long it will go on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with open_progress(*columns) as progress:
        yield Bar(progress, photos, done)
