"""`matte video IN OUT`: matte a clip locally, with the code of the service and no server."""

import argparse
import asyncio
import errno
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, get_args

from cli.video_screen import show_progress, summarise
from service.clips.matte import MattedClip, ProgressCallbacks
from service.clips.options import VideoOptions
from service.clips.outputs import OUTPUTS
from service.clips.plan import make_plan, read_background
from service.clips.run import describe_clip, run_clip
from service.clips.slots import VideoSlots
from service.errors import ImpossibleOutput, MattingError
from service.frames.network import choose_frame_model
from service.inference.models import ModelError
from service.inference.providers import DeviceError
from service.media.video.types import MAX_SIDE
from service.metrics import Metrics
from service.options import BACKGROUND, check_background_file, describe_option, parse_options
from service.runtime import Runtime
from service.settings import Settings, SettingsError, load_settings
from training.commands.common import fail

# Limits guard a service from its clients; nobody's own clip is too long or too large.
OWN_CLIP = {
    "video_max_s": 10**7,
    "video_max_frames": 10**9,
    "video_max_frame_megapixels": MAX_SIDE**2 / 1e6,
    "video_max_side": MAX_SIDE,
    "video_result_max_mb": 10**9,
    "image_max_bytes": 2**31,
    "image_max_megapixels": 2000,
    "image_max_side": 2**16,
    "decoder_memory_bytes": 2**36,
    "decoder_video_memory_bytes": 2**36,
    "decoder_cpu_s": 600,
    "decoder_timeout_s": 600,
}
ONE_CLIP = {"decoders": 1, "max_videos": 1}
MODEL_SUFFIXES = (".onnx", ".ckpt", ".npz", ".pt", ".pth")
EXIT_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code (130: interrupted). Nothing half-made is left."""
    # The errors say it in one line; the service's log would say it again.
    logging.getLogger("service").addHandler(logging.NullHandler())
    arguments = build_parser().parse_args(argv)
    try:
        results, report = matte_file(arguments)
    except MattingError as error:
        return fail(f"{error.detail}; {error.hint}" if error.hint else error.detail)
    except (SettingsError, ModelError, DeviceError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.out}: {error.strerror or error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return fail("interrupted; nothing was written", code=EXIT_INTERRUPTED)
    if arguments.json:
        print(json.dumps({"results": results, "report": report}, indent=2))
    else:
        print("\n".join(f"{name:<22}{text}" for name, text in summarise(results, report)))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `matte video`; the options of a clip are those of the HTTP API."""
    parser = argparse.ArgumentParser(
        prog="matte video",
        description="Matte a clip on this machine. Options are those of POST /v1/video.",
    )
    parser.add_argument("clip", type=Path, metavar="IN", help="MP4, MOV, MKV, WebM, TS or GIF")
    help = "file for one output, or a folder; a folder for several"
    parser.add_argument("out", type=Path, metavar="OUT", help=help)
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    help = "an ONNX file, or the name of a model that the service has (MATTING_MODELS)"
    parser.add_argument("--model", metavar="FILE|NAME", help=help)
    devices = get_args(Settings.model_fields["device"].annotation)
    parser.add_argument("--device", choices=devices, help="where the network runs (MATTING_DEVICE)")
    options = parser.add_argument_group("options of the clip")
    flag = BACKGROUND.replace("_", "-")
    options.add_argument(
        f"--{flag}",
        type=Path,
        dest=BACKGROUND,
        metavar="FILE",
        help="what is behind the person",
    )
    properties = VideoOptions.model_json_schema()["properties"]
    del properties["model"]  # above, where it may be a file too
    for name, schema in properties.items():
        options.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=describe_values(schema),
            help=describe_option(schema).replace("%", "%%"),
        )
    return parser


def describe_values(schema: Mapping[str, Any]) -> str:
    """Return what stands for the value of an option in the help."""
    if "enum" in schema:
        return "|".join(schema["enum"])
    kinds = {kind.get("type") for kind in schema.get("anyOf", [schema])}
    return "N" if kinds & {"integer", "number"} else "TEXT"


def matte_file(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the files that are there now and the report, both for JSON.

    Results are made in a folder beside OUT and moved when they are whole.
    """
    names = VideoOptions.model_fields
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    model_path: Path | None = None
    if arguments.model is not None and is_file_name(arguments.model):
        model_path = Path(given.pop("model"))
    options = parse_options(VideoOptions, given)
    background: Path | None = getattr(arguments, BACKGROUND)
    check_background_file(
        options, BACKGROUND, {} if background is None else {BACKGROUND: background}
    )
    outputs = make_plan(options, None).outputs
    paths = choose_paths(arguments.out, [OUTPUTS[output].file for output in outputs])
    refuse_overwriting(paths, arguments.force)
    with ExitStack() as stack:
        file = stack.enter_context(arguments.clip.open("rb"))
        picture = stack.enter_context(background.open("rb")) if background else None
        home = arguments.out if arguments.out.is_dir() else arguments.out.parent
        folder = Path(stack.enter_context(make_folder(home)))
        overrides = {"model_path": model_path, "device": arguments.device}
        chosen = {name: value for name, value in overrides.items() if value is not None}
        settings = load_settings(data_dir=folder, **OWN_CLIP, **ONE_CLIP, **chosen)
        watch = stack.enter_context(show_progress())
        clip, report = asyncio.run(run(settings, file, picture, options, folder, watch))
        refuse_overwriting(paths, arguments.force)
        for result, path in zip(clip.results, paths, strict=True):
            path.parent.mkdir(exist_ok=True)
            os.replace(result.path, path)
    written = [
        {"path": str(path), "bytes": result.bytes, "content_type": result.content_type}
        for result, path in zip(clip.results, paths, strict=True)
    ]
    return written, report


def is_file_name(model: str) -> bool:
    """Say whether --model is a file and no name of a model."""
    path = Path(model)
    return len(path.parts) > 1 or path.suffix in MODEL_SUFFIXES


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


def refuse_overwriting(paths: list[Path], force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            raise FileExistsError(errno.EEXIST, "is there already; --force overwrites", str(path))


def make_folder(home: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a hidden folder in `home`, of the file system that the results end on."""
    try:
        return tempfile.TemporaryDirectory(prefix=".matte-", dir=home)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(home)) from None


async def run(
    settings: Settings,
    file: BinaryIO,
    picture: BinaryIO | None,
    options: VideoOptions,
    folder: Path,
    watch: ProgressCallbacks,
) -> tuple[MattedClip, dict[str, Any]]:
    """Matte the clip with the parts that the service has; SIGTERM and SIGHUP cancel, as Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
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


if __name__ == "__main__":
    sys.exit(main())
