"""Live video, written once: frames over a WebSocket, each answered by its matte."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from matting_client.core import Core
from matting_client.errors import ProblemError, Unreachable, make_error
from matting_client.inputs import Photo, take_photo
from matting_client.results import LiveMatte
from matting_client.sessions import SessionCore, Source, each, open_session
from matting_client.transport import Socket

PROTOCOL = "matting.v1"
# So many frames may wait at the service; a further one takes the place of all of them.
MAX_WAITING = 2
# Close codes (RFC 6455, and the service's own): 4000 and a status of HTTP.
RESTARTS, OWN_CODES = 1012, 4000


async def open_live(core: Core, given: Mapping[str, Any]) -> "LiveCore":
    """Open a session of frames and connect to it."""
    session = await open_session(core, {**given, "packaging": "frames"})
    url = core.url.replace("http", "ws", 1) + f"{session.path}/live"
    with_key = {name: text for name, text in core.headers.items() if name == "Authorization"}
    try:
        async with translated(core.url):
            socket = await core.transport.connect(url, [PROTOCOL], with_key)
    except BaseException:
        await session.drop()
        raise
    return LiveCore(session, socket, waits=given.get("smoothing") != "off")


class LiveCore:
    """One connection; `waits` says that a frame is answered when the next one has come."""

    def __init__(self, session: SessionCore, socket: Socket, *, waits: bool) -> None:
        self.session = session
        self._socket = socket
        self._transport = session.core.transport
        self._pending = 1 if waits else 0
        self._sent = 0
        self._answered = 0  # frames up to there will not be answered any more
        self._is_open = True

    async def send(self, frame: Photo) -> None:
        """Send a frame; the service leaves out what it cannot do in time."""
        part = await self._transport.work(take_photo, frame)
        with part.open() as file:
            content = file.read()
        async with translated(self.session.core.url):
            await self._transport.send_message(self._socket, content)
        self._sent += 1

    async def receive(self) -> LiveMatte:
        """Return the next answer, in order.

        Raises ProblemError for a frame that cannot be used, after which the stream goes on, and
        when the service closes the connection.
        """
        async with translated(self.session.core.url):
            facts = json.loads(await self._transport.receive_message(self._socket))
            self._answered = max(self._answered, facts["frame"] + 1)
            if "problem" in facts:
                problem = facts["problem"]
                raise make_error(problem.get("status", 422), problem)
            content = await self._transport.receive_message(self._socket)
        assert isinstance(content, bytes)
        return LiveMatte(
            content,
            guess_type(content),
            frame=facts["frame"],
            dropped=facts["dropped"],
            latency_ms=facts["latency_ms"],
            fps=facts["fps"],
            notes=tuple(facts.get("notes", ())),
        )

    async def finish(self) -> LiveMatte | None:
        """Close the connection and return the frame that waited, if one did."""
        await self._close_socket()
        answer = await self.session.finish()
        notes = () if answer.notes is None else (answer.notes,)
        for frame in answer.frames:
            return LiveMatte(frame.content, frame.content_type, self._sent - 1, notes=notes)
        return None

    async def close(self) -> None:
        """Close the connection and forget the session."""
        await self._close_socket()
        await self.session.drop()

    async def mattes(self, frames: Source[Photo]) -> AsyncGenerator[LiveMatte]:
        """Yield the matte of each frame and end the session; none is dropped.

        Frames are taken as the service gets done with those before.
        """
        async for frame in each(frames):
            await self.send(frame)
            # The frame behind an answered one has been matted, and waits for its follower only.
            is_held = self._pending if self._answered else 0
            if self._sent - self._answered >= MAX_WAITING + is_held:
                yield await self.receive()
        while self._sent - self._answered > self._pending:
            yield await self.receive()
        if self._sent and (last := await self.finish()) is not None:
            yield last

    async def _close_socket(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._transport.close_socket(self._socket)


@asynccontextmanager
async def translated(url: str) -> AsyncIterator[None]:
    """Raise this package's errors for those of websockets."""
    try:
        yield
    except InvalidStatus as error:
        raise read_refusal(error) from error
    except ConnectionClosed as error:
        code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (0, "")
        status = 503 if code == RESTARTS else code - OWN_CODES
        if status < 400:
            raise Unreachable(f"the connection to {url} has ended: {error}") from error
        detail = f"the service closed the connection: {reason or code}"
        raise make_error(status, {"code": reason, "detail": detail}) from error
    except (OSError, InvalidHandshake) as error:
        raise Unreachable(f"no connection to {url}: {error}") from error


def read_refusal(error: InvalidStatus) -> ProblemError:
    """Return the error of an answer that came in place of a connection."""
    try:
        problem = json.loads(error.response.body or b"")
    except ValueError:
        problem = {}
    return make_error(error.response.status_code, problem)


def guess_type(content: bytes) -> str:
    """Return the content type of a picture as the service makes them."""
    if content.startswith(b"\x89PNG"):
        return "image/png"
    return "image/jpeg" if content.startswith(b"\xff\xd8") else "image/webp"
