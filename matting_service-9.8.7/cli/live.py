"""`matte live`: a webcam or a clip through the live socket of a service, into a file or a pipe."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from cli.live_movie import MovieWriter
from cli.live_session import LiveSession, RequestFailed
from training.commands.common import fail

# The service lets two frames wait and drops the oldest of three, which would never be answered; the
# first answer needs two, because a frame waits for its follower.
MOST_UNANSWERED = 2
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]


@dataclass
class Counts:
    """What went out and what came back, and the last times of the service."""

    sent: int = 0
    answered: int = 0
    latency_ms: float = 0.0
    fps: float = 0.0


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    options = {"output": arguments.output, "packaging": "frames", "format": "jpeg"}
    if arguments.model:
        options["model"] = arguments.model
    if arguments.background:
        options["background"] = arguments.background
    try:
        with Source(arguments.source) as source:
            session = LiveSession(arguments.server, arguments.key, options | {"fps": source.fps})
            with MovieWriter(arguments.out, source.fps) as movie:
                counts = matte(source, session, movie)
    except (RequestFailed, SourceError) as error:
        return fail(str(error))
    except (ConnectionClosed, InvalidHandshake) as error:
        return fail(f"the live connection ended: {error}")
    except OSError as error:
        return fail(f"{error.filename or arguments.server}: {error.strerror or error}")
    print(
        f"{counts.answered} frames, {counts.fps:.1f} a second, latency {counts.latency_ms:.0f} ms",
        file=sys.stderr,
    )
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `matte live`."""
    parser = argparse.ArgumentParser(
        prog="matte live",
        description="Send a clip or a webcam through the live socket of a running service. "
        "Interrupt (Ctrl-C) to end a webcam. `--out - | ffplay -` shows the result at once.",
    )
    parser.add_argument("source", help="a clip, or the number of a webcam: 0 is the first")
    parser.add_argument(
        "--out", default="live.mp4", metavar="FILE", help="H.264 file; -: Matroska on stdout"
    )
    parser.add_argument("--output", choices=("composite", "alpha"), default="composite")
    parser.add_argument("--model", help="a name from /v1/models (default: auto)")
    parser.add_argument("--background", help="behind a composite: a colour, or blur")
    parser.add_argument("--server", default="http://localhost:8000", metavar="URL")
    parser.add_argument(
        "--key", default=os.environ.get("MATTE_KEY"), help="API key (default: $MATTE_KEY)"
    )
    return parser


class SourceError(Exception):
    """The clip or the webcam cannot be read; the text names it."""


class Source:
    """JPEGs of a clip or a webcam, one after another, each with its time in seconds.

    A clip has its own times; a frame of a webcam has the time when it came, by `clock`.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_clip = not name.isdigit()
        self._capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
        if not self._capture.isOpened():
            kind = "no webcam has this number" if name.isdigit() else "cannot be read as a clip"
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


if __name__ == "__main__":
    sys.exit(main())
