"""`matte video IN OUT`: matte a clip locally, with the code of the service and no server."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from cli.flags import (
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
from cli.video.screen import show_progress, show_remote_progress, summarise
from service.clips.matte import MattedClip, ProgressCallbacks
from service.clips.options import VideoOptions
from service.clips.outputs import OUTPUTS
from service.clips.plan import make_plan, read_background
from service.clips.run import describe_clip, run_clip
from service.clips.slots import VideoSlots
from service.errors import ImpossibleOutput
from service.frames.network import choose_frame_model
from service.metrics import Metrics
from service.options import BACKGROUND, check_background_file, parse_options
from service.runtime import Runtime
from service.settings import Settings, load_settings


@add_option_flags(VideoOptions, leave_out=("model",))  # below, where it may be a file too
def video(
    clip: Annotated[
        Path, typer.Argument(metavar="IN", help="MP4, MOV, MKV, WebM, TS, AVI, FLV or GIF")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="file for one output, or a folder; a folder for several"
        ),
    ],
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    model: ModelName = None,
    device: DeviceName = None,
    background_file: BackgroundFile = None,
    server: Server = None,
    key: Key = None,
    **options: Any,
) -> None:
    """Matte a clip on this machine, or on a service.

    Options are those of POST /v1/video.
    """
    with report_errors(out, "interrupted; nothing was written"):
        work = ClipWork(clip, out, background_file, list_given(options), force)
        results, report = matte_file(work, Place(model, device, server, key))
    if as_json:
        print(json.dumps({"results": results, "report": report}, indent=2))
    else:
        print("\n".join(f"{name:<22}{text}" for name, text in summarise(results, report)))


@dataclass(frozen=True)
class ClipWork:
    """What the command line says but for the network."""

    clip: Path
    out: Path
    background: Path | None
    options: dict[str, Any]
    force: bool

    def check(self, more: dict[str, Any]) -> tuple[VideoOptions, list[Path]]:
        """Return the options and where the results go; raises MattingError or OSError."""
        options = parse_options(VideoOptions, self.options | more)
        files = {} if self.background is None else {BACKGROUND: self.background}
        check_background_file(options, BACKGROUND, files)
        outputs = make_plan(options, None).outputs
        paths = choose_paths(self.out, [OUTPUTS[output].file for output in outputs])
        refuse_overwriting(paths, self.force)
        return options, paths

    @property
    def home(self) -> Path:
        """The folder that the results go into or below."""
        return self.out if self.out.is_dir() else self.out.parent


Results = tuple[list[dict[str, Any]], dict[str, Any]]


def matte_file(work: ClipWork, place: Place) -> Results:
    """Return the files that are there now and the report, both for JSON.

    Results are made in a folder beside OUT and moved when they are whole.
    """
    options, paths = work.check(place.options)
    with ExitStack() as stack:
        file = stack.enter_context(work.clip.open("rb"))
        picture = stack.enter_context(work.background.open("rb")) if work.background else None
        folder = Path(stack.enter_context(make_folder(work.home)))
        if place.server:
            watch = stack.enter_context(show_remote_progress())
            made, report = asyncio.run(send(place, work, options, folder, watch))
        else:
            settings = load_settings(data_dir=folder, decoders=1, **place.settings)
            callbacks = stack.enter_context(show_progress())
            clip, report = asyncio.run(run(settings, file, picture, options, folder, callbacks))
            made = [result.path for result in clip.results]
        refuse_overwriting(paths, work.force)
        for part, path in zip(made, paths, strict=True):
            path.parent.mkdir(exist_ok=True)
            os.replace(part, path)
    written = [
        {
            "path": str(path),
            "bytes": path.stat().st_size,
            "content_type": OUTPUTS[name].content_type,
        }
        for name, path in zip(options.outputs, paths, strict=True)
    ]
    return written, report


async def send(
    place: Place,
    work: ClipWork,
    options: VideoOptions,
    folder: Path,
    progress: Callable[[Any], None],
) -> tuple[list[Path], dict[str, Any]]:
    """Matte the clip on a service; return the files in `folder`, in order, and the report."""
    from cli.remote import open_service  # needs the extra [client]

    cancel_on_signals()
    given = options.model_dump(exclude_unset=True) | {BACKGROUND: work.background}
    async with open_service(str(place.server), place.key) as service:
        video = await service.matte_video(work.clip, folder, given, progress)
    return [video.files[OUTPUTS[name].file] for name in options.outputs], video.report


def choose_paths(out: Path, names: list[str]) -> list[Path]:
    """Return where the results go; raises ImpossibleOutput or OSError when they cannot."""
    if out.is_dir():
        return [out / name for name in names]
    if not out.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(out.parent))
    if len(names) > 1:
        if out.exists():
            raise NotADirectoryError(
                errno.ENOTDIR, f"is no folder; {len(names)} outputs need one", str(out)
            )
        return [out / name for name in names]
    suffix = Path(names[0]).suffix
    if out.suffix.lower() != suffix:
        raise ImpossibleOutput(
            f"{out} does not end in {suffix}, and this output is such a file",
            hint=suggest_outputs(out, suffix),
        )
    return [out]


def suggest_outputs(out: Path, suffix: str) -> str:
    """Return what to do where a file does not end in the suffix of its output."""
    names = [name for name, o in OUTPUTS.items() if Path(o.file).suffix == out.suffix.lower()]
    written = f"write to {out.with_suffix(suffix).name} or into a folder that is there"
    return f"add --outputs {' or '.join(names)}, or {written}" if names else written


async def run(
    settings: Settings,
    file: BinaryIO,
    picture: BinaryIO | None,
    options: VideoOptions,
    folder: Path,
    watch: ProgressCallbacks,
) -> tuple[MattedClip, dict[str, Any]]:
    """Matte the clip with the parts that the service has; SIGTERM and SIGHUP cancel, as Ctrl-C."""
    cancel_on_signals()
    runtime = await Runtime.start(settings, Metrics())
    slots = VideoSlots(settings.max_videos, runtime.metrics)
    try:
        model = choose_frame_model(runtime, options)
        plan = make_plan(options, await read_background(runtime, picture))
        max_s = settings.video_max_s
        clip = await run_clip(runtime, slots, model, file, plan, folder, watch, max_s=max_s)
        return clip, describe_clip(model, clip)
    finally:
        await runtime.stop_network()
        slots.threads.shutdown(wait=False)
        await runtime.aclose()
