"""Run the service's parts in this process, on the user's own files."""

import asyncio
import errno
import logging
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ImpossibleOutput, InvalidOption, MattingError
from service.inference.models import ModelError
from service.inference.providers import DeviceError
from service.media.video.types import MAX_SIDE
from service.settings import SettingsError
from training.commands.common import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, fail

# Limits guard a service from its clients; nobody's own file is too long or too large.
OWN_FILES = {
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
    "request_timeout_s": 10**6,
    "queue_s": 10**6,
    "max_requests": 10**6,
    "max_megapixels": 10**6,
    "max_videos": 1,
}
USAGE = (InvalidOption.slug, ImpossibleOutput.slug)  # here or on a service
ROUTE = re.compile(r"(?:POST )?/v1/(image|video)\b(?!/)")
MODEL_SUFFIXES = (".onnx", ".ckpt", ".npz", ".pt", ".pth")


class CannotGoOn(Exception):
    """The command cannot go on, whatever the file; the text is one line that says why."""


@dataclass(frozen=True)
class Place:
    """Where the network runs, as the command line says: in this process, or on a service."""

    model: str | None
    device: str | None
    server: str | None
    key: str | None

    def __post_init__(self) -> None:
        """Raises InvalidOption for what only this machine has, with a service."""
        if self.server and (self.device or self.model_path):
            raise InvalidOption(
                "a device or a file of a model is for this machine",
                hint="name a model that the service has, or leave out --server",
            )

    @property
    def model_path(self) -> Path | None:
        """The file of the network, None for a model by its name."""
        path = Path(self.model or "")
        return path if len(path.parts) > 1 or path.suffix in MODEL_SUFFIXES else None

    @property
    def options(self) -> dict[str, str]:
        """The option of a request that names the model, if a name was given."""
        return {"model": self.model} if self.model and not self.model_path else {}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the network in this process, without limits on the user's own files."""
        given = {"model_path": self.model_path, "device": self.device}
        return OWN_FILES | {name: value for name, value in given.items() if value is not None}


def explain(error: MattingError) -> str:
    """Return what was wrong and what to do, in one line, with commands for routes of the API."""
    text = f"{error.detail}; {error.hint}" if error.hint else error.detail
    return ROUTE.sub(r"`matte \1`", text)


@contextmanager
def report_errors(place: object, interrupted: str) -> Iterator[None]:
    """Turn what the block raises into one line on stderr and an exit code.

    `place` is named where an error of the system names no file, `interrupted` said after Ctrl-C.
    """
    # The errors say it in one line; the service's log would say it again.
    logging.getLogger("service").addHandler(logging.NullHandler())
    try:
        yield
    except MattingError as error:
        is_usage = error.describe().get("code") in USAGE
        fail(explain(error), EXIT_USAGE if is_usage else EXIT_FAILED)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except (ModelError, DeviceError, CannotGoOn) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or place}: {error.strerror or error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail(interrupted, EXIT_INTERRUPTED)


def cancel_on_signals() -> None:
    """Make SIGTERM and SIGHUP cancel the running task, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def make_folder(home: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a hidden folder in `home`, of the file system that the results end on."""
    try:
        return tempfile.TemporaryDirectory(prefix=".matte-", dir=home)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(home)) from None


def refuse_overwriting(paths: list[Path], force: bool) -> None:
    """Raise FileExistsError for what is there, unless --force was given."""
    for path in paths:
        if path.exists() and not force:
            raise FileExistsError(errno.EEXIST, "is there already; --force overwrites", str(path))
