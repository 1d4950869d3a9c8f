"""`matte live`: a webcam or a clip through the live socket of a service, into a file or a pipe."""

import contextlib
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import typer
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from cli.flags import Force, Key
from cli.live.movie import MovieWriter
from cli.live.session import LiveSession, RequestFailed
from cli.live.source import CameraSource, ClipSource, SourceError, open_source
from cli.local import USAGE, refuse_overwriting
from training.commands.common import EXIT_FAILED, EXIT_USAGE, fail

# The service lets two frames wait, and a third takes the place of both, which are not answered; the
# first answer needs two, because a frame waits for its follower.
MOST_UNANSWERED = 2
PIPE = "-"


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
        with open_source(source) as frames:
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
    if told := frames.told:
        print(f"of the clip: {', '.join(describe(told))}", file=sys.stderr)


def matte(source: CameraSource | ClipSource, session: LiveSession, movie: MovieWriter) -> Counts:
    """Send every frame and write every answer, the delayed last one too."""
    counts = Counts()
    times_s: deque[float] = deque()  # of the frames that are not answered yet
    with connect(
        session.socket_url, subprotocols=session.protocols, compression=None, max_size=None
    ) as socket:
        for time_s, frame in until_interrupted(source.read_frames()):
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


def until_interrupted(frames: Iterator[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Yield times and frames until they end or the user interrupts."""
    with contextlib.suppress(KeyboardInterrupt):
        yield from frames


def describe(told: Mapping[str, Any]) -> Iterator[str]:
    for name, value in told.items():
        text = ", ".join(value) if isinstance(value, list) else value
        yield f"{name.replace('_', ' ')} {'yes' if value is True else text}"


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
