"""`matte live`: a webcam or a clip through the live socket of a service, into a file or a pipe."""

import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import typer
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from cli.flags import Force, Key
from cli.live.movie import MovieWriter
from cli.live.session import LiveSession, RequestFailed
from cli.local import USAGE, refuse_overwriting
from training.commands.common import EXIT_FAILED, EXIT_USAGE, fail

# The service lets two frames wait and drops the oldest of three, which would never be answered; the
# first answer needs two, because a frame waits for its follower.
MOST_UNANSWERED = 2
PIPE = "-"
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]


@dataclass
class Counts:
    """What went out and what came back, and the last times of the service."""

    sent: int = 0
    answered: int = 0
    latency_ms: float = 0.0
    fps: float = 0.0


def live(
    source: Annotated[
        str, typer.Argument(help="a clip, or the number of a webcam: 0 is the first")
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE", help="H.264 file; -: Matroska on stdout")
    ] = "live.mp4",
    output: Annotated[Literal["composite", "alpha"], typer.Option(help="what comes back")] = (
        "composite"
    ),
    model: Annotated[
        str | None, typer.Option(metavar="NAME", show_default="auto", help="of /v1/models")
    ] = None,
    background: Annotated[
        str | None, typer.Option(metavar="COLOUR", help="behind a composite: a colour, or blur")
    ] = None,
    server: Annotated[
        str, typer.Option(metavar="URL", envvar="MATTING_SERVER", help="address of the service")
    ] = "http://localhost:8000",
    key: Key = None,
    force: Force = False,
) -> None:
    """Send a clip or a webcam through the live socket of a running service.

    Interrupt (Ctrl-C) to end a webcam. `--out - | ffplay -` shows the result at once.
    """
    options: dict[str, object] = {"output": output, "packaging": "frames", "format": "jpeg"}
    if model:
        options["model"] = model
    if background:
        options["background"] = background
    try:
        refuse_overwriting([] if out == PIPE else [Path(out)], force)
        with Source(source) as frames:
            session = LiveSession(server, key, options | {"fps": frames.fps})
            with MovieWriter(out, frames.fps) as movie:
                counts = matte(frames, session, movie)
    except RequestFailed as error:
        fail(str(error), EXIT_USAGE if error.code in USAGE else EXIT_FAILED)
    except SourceError as error:
        fail(str(error))
    except (ConnectionClosed, InvalidHandshake) as error:
        fail(f"the live connection ended: {error}")
    except OSError as error:
        fail(f"{error.filename or server}: {error.strerror or error}")
    print(
        f"{counts.answered} frames, {counts.fps:.1f} a second, latency {counts.latency_ms:.0f} ms",
        file=sys.stderr,
    )


class SourceError(Exception):
    """The clip or the webcam cannot be read; the text names it."""


class Source:
    """JPEGs of a clip or a webcam, one after another, each with its time in seconds.

    A clip has its own times; a frame of a webcam has the time when it came, by `clock`.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_clip = not name.isdigit()
        if self._is_clip and "://" not in name and not Path(name).exists():
            raise SourceError(f"{name}: there is no such file")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # one line says it
        self._capture = cv2.VideoCapture(name if self._is_clip else int(name))
        if not self._capture.isOpened():
            kind = "cannot be read as a clip" if self._is_clip else "no webcam has this number"
            raise SourceError(f"{name}: {kind}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 1 <= rate <= 240 else 30.0

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def read_frames(self) -> Iterator[tuple[float, bytes]]:
        """Yield times and frames until the clip ends or the user interrupts."""
        start_s: float | None = None
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                found, image = self._capture.read()
                if not found:
                    return
                time_s = self._clock()
                if self._is_clip:
                    time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                start_s = time_s if start_s is None else start_s
                yield time_s - start_s, cv2.imencode(".jpg", image, JPEG)[1].tobytes()


def matte(source: Source, session: LiveSession, movie: MovieWriter) -> Counts:
    """Send every frame and write every answer, the delayed last one too."""
    counts = Counts()
    times_s: deque[float] = deque()  # of the frames that are not answered yet
    with connect(
        session.socket_url, subprotocols=session.protocols, compression=None, max_size=None
    ) as socket:
        for time_s, frame in source.read_frames():
            if counts.sent - counts.answered == MOST_UNANSWERED:
                take_answer(socket, movie, times_s.popleft(), counts)
            socket.send(frame)
            times_s.append(time_s)
            counts.sent += 1
        while counts.answered < counts.sent - 1:
            take_answer(socket, movie, times_s.popleft(), counts)
    if counts.sent:
        movie.add(read_picture(session.finish()), times_s.popleft())
        counts.answered += 1
    return counts


def take_answer(
    socket: ClientConnection, movie: MovieWriter, time_s: float, counts: Counts
) -> None:
    facts = json.loads(socket.recv())
    if problem := facts.get("problem"):
        raise RequestFailed(f"frame {facts['frame']}: {problem['detail']}")
    content = socket.recv()
    movie.add(read_picture(content), time_s)
    counts.answered += 1
    counts.latency_ms, counts.fps = facts["latency_ms"], facts["fps"]


def read_picture(content: bytes) -> np.ndarray:
    """Return a picture of the service, (H, W, 3) uint8 BGR."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
