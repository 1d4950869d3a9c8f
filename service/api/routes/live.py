"""`WS /v1/sessions/{id}/live`: frames in, rendered frames out."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import NoReturn

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from service.api.auth import read_ticket
from service.api.dependencies import RuntimeDependency, SessionsDependency
from service.errors import BadRequest, Draining, MattingError, NotFound, Unauthorized
from service.runtime import Runtime
from service.sessions.live import LiveStream
from service.sessions.session import Session, refuse_finished
from service.sessions.store import SessionStore
from service.settings import Settings

router = APIRouter()
PROTOCOL = "matting.v1"
# Close codes of RFC 6455.
NO_FRAME, TOO_LARGE, GOING_AWAY = 1003, 1009, 1012
# The others are 4000 and the status of HTTP that says the same.
OWN_CODES, IDLE, ENDED = 4000, 4408, 4410


@dataclass(frozen=True)
class Closing:
    """Why the service ends a connection."""

    code: int
    reason: str


@router.websocket("/v1/sessions/{session_id}/live")
async def run_live(
    websocket: WebSocket,
    runtime: RuntimeDependency,
    sessions: SessionsDependency,
    session_id: str,
) -> None:
    """Answer each binary message, a picture, by JSON text and the result as a binary message.

    What is refused is refused by HTTP, before there is a socket. Those who bring a ticket are
    browsers, which cannot see that: they get a socket that is closed with 4000 + the status.
    """
    ticket = read_ticket(websocket.scope)
    offered = websocket.scope["subprotocols"]
    protocol = PROTOCOL if PROTOCOL in offered else None
    async with AsyncExitStack() as stack:
        try:
            if offered and protocol is None:
                raise BadRequest(
                    "none of the sub-protocols is known", hint=f"offer `{PROTOCOL}` among them"
                )
            session = find_session(websocket, runtime, sessions, session_id, ticket)
            stack.enter_context(sessions.use(session.owner, session.id))
            await stack.enter_async_context(sessions.hold(session, wait_s=0))
            refuse_finished(session)
        except MattingError as error:
            if ticket is None:
                raise
            await websocket.accept(protocol)
            await websocket.close(OWN_CODES + error.status, error.slug)
            return
        await websocket.accept(protocol)
        try:
            closing = await serve_frames(websocket, runtime, sessions, session)
            if closing is not None:
                async with asyncio.timeout(choose_patience(runtime.settings)):
                    await websocket.close(closing.code, closing.reason)
        except (WebSocketDisconnect, TimeoutError):
            pass  # the client left, or it reads nothing any more


@router.websocket("/{path:path}")
async def refuse_socket(websocket: WebSocket, path: str) -> NoReturn:
    """Answer other paths as HTTP does."""
    raise NotFound("there is no socket at this path", hint="it is /v1/sessions/{id}/live")


def find_session(
    websocket: WebSocket,
    runtime: Runtime,
    sessions: SessionStore,
    session_id: str,
    ticket: str | None,
) -> Session:
    """Return the session that a ticket or a key opens.

    Raises Draining, Unauthorized for a ticket that is not good, NotFound, Gone.
    """
    if runtime.health.draining:
        raise Draining("the service is shutting down", retry_after_s=1)
    if ticket is None:
        return sessions.find(websocket.scope["owner"], session_id)
    session = sessions.redeem_ticket(ticket, session_id)
    if session is None:
        raise Unauthorized("the ticket is unknown, used, too old, or of another session")
    return session


async def serve_frames(
    websocket: WebSocket, runtime: Runtime, sessions: SessionStore, session: Session
) -> Closing | None:
    """Answer frames until something ends the connection; None: the client left."""
    stream = LiveStream(runtime, session)
    try:
        return await run_until_first(
            receive_frames(websocket, runtime.settings, sessions, session, stream),
            send_answers(websocket, stream, choose_patience(runtime.settings)),
            stream.matte_frames(),
            stream.render_frames(),
            watch_session(sessions, session),
        )
    except Draining:
        return Closing(GOING_AWAY, "draining")


async def receive_frames(
    websocket: WebSocket,
    settings: Settings,
    sessions: SessionStore,
    session: Session,
    stream: LiveStream,
) -> Closing | None:
    limit_bytes = settings.socket_message_max_bytes
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        data = message.get("bytes")
        if data is None:
            return Closing(NO_FRAME, "text came where a frame is due")
        if len(data) > limit_bytes:  # servers cut off most of them before
            return Closing(TOO_LARGE, f"a message may have {limit_bytes} bytes")
        sessions.touch(session)
        stream.offer(data)
        await asyncio.sleep(0)  # what has come already is received without a pause for others


async def send_answers(websocket: WebSocket, stream: LiveStream, patience_s: float) -> NoReturn:
    """Send answers; raises TimeoutError when the client takes none for too long."""
    while True:
        answer = await stream.take()
        async with asyncio.timeout(patience_s):
            await websocket.send_text(json.dumps(answer.facts))
            if answer.content is not None:
                await websocket.send_bytes(answer.content)


async def watch_session(store: SessionStore, session: Session) -> Closing:
    """Return when the session ends: deleted, after its whole life, or without frames for long."""
    while not store.end_expired(session):
        try:
            async with asyncio.timeout(store.expires_in_s(session)):
                await session.ended.wait()
                return Closing(ENDED, "the session was deleted")
        except TimeoutError:
            pass  # unless frames came meanwhile
    return Closing(IDLE, "the session's time is over")


def choose_patience(settings: Settings) -> float:
    """Return the seconds in which a client must take an answer: those in which it must pong."""
    return 2 * settings.socket_ping_s


async def run_until_first(*works: Coroutine[None, None, Closing | None]) -> Closing | None:
    """Run all, end the others when one ends, and return what it returned or raise its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(task for task in tasks if task in done).result()
