"""`/v1/sessions`: video in chunks, each answered with the frames that are ready."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from service.api.dependencies import RuntimeDependency, SessionsDependency
from service.api.disconnect import run_until_disconnect
from service.api.downloads import stream_file
from service.api.openapi import FILE, describe_upload
from service.api.uploads import Accepted, Upload, read_upload
from service.errors import BadRequest, ImpossibleOutput, InvalidOption
from service.frames.network import choose_frame_model
from service.media.video.writing.fragment_writer import choose_level, describe_mime
from service.options import parse_options
from service.runtime import Runtime
from service.sessions.apply import OpenAnswer, apply_chunk, finish_session
from service.sessions.chunk import Chunk, check_frame_size, make_chunk
from service.sessions.options import SessionOptions
from service.sessions.session import Session, refuse_finished
from service.sessions.store import TICKET_S, SessionStore

router = APIRouter(tags=["sessions"])
CLIP, FRAME = "file", "frame"
MAX_OPTION_BYTES = 64 * 1024
ANSWER_HEADERS = {
    "X-Frames-In": "frames of this chunk",
    "X-Frames-Out": "frames in this answer",
    "X-Frames-Pending": "frames that wait for the next chunk: 1 with smoothing, else 0",
    "X-Next-Sequence": "number of the next chunk",
    "X-Scene-Cuts": "scene cuts found in this chunk, where smoothing begins anew",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"video/mp4": {}, "multipart/mixed": {}},
        "headers": {
            name: {"description": text, "schema": {"type": "integer"}}
            for name, text in ANSWER_HEADERS.items()
        },
    }
}


class SessionDocument(BaseModel):
    """A session as its owner sees it."""

    id: str
    next_sequence: int = Field(description="number of the chunk to send next")
    expires_at: str = Field(description="when it ends if nobody uses it, ISO 8601")
    frames_in: int = Field(description="frames that came")
    frames_out: int = Field(description="frames that were answered")
    frames_pending: int
    scene_cuts: list[int] = Field(description="first frame after each, the newest 100")
    scene_cuts_total: int
    width: int | None = Field(description="pixels, known after the first frame")
    height: int | None
    model: str | None = Field(description="what mattes it, known after the first frame")
    buffer_bytes: int = Field(description="memory that it holds")
    mime: str | None = Field(description="for Media Source Extensions, with packaging=fmp4")


class OpenedSession(SessionDocument):
    """A session that was opened just now."""

    ticket: str = Field(description="admits one live connection within 60 s")


class TicketDocument(BaseModel):
    """A secret for one live connection."""

    ticket: str
    expires_in_s: float


@router.post(
    "/v1/sessions",
    status_code=201,
    summary="Open a session for a video in chunks",
    response_model=OpenedSession,
    openapi_extra=describe_upload(SessionOptions, "session", (), takes_json=True),
)
async def open_session(
    request: Request,
    response: Response,
    runtime: RuntimeDependency,
    sessions: SessionsDependency,
) -> OpenedSession:
    """Open a session. Chunks then go to `PUT /v1/sessions/{id}/chunks/0`, `1`, `2` and so on, and
    `finish` answers the last frame. Mattes, times and, with packaging=fmp4, the coded pictures are
    those of the whole video in one chunk. A session ends after 60 s without use."""
    accepted = Accepted("session", (), MAX_OPTION_BYTES, most=0, takes_json=True)
    async with read_upload(request, accepted) as upload:
        options = parse_options(SessionOptions, upload.options)
    if options.output == "cutout" and options.packaging == "fmp4":
        raise ImpossibleOutput("H.264 has no alpha", hint="ask for packaging=frames")
    if options.output == "cutout" and options.format == "jpeg":
        raise ImpossibleOutput("JPEG has no alpha", hint="ask for format=webp or format=png")
    if options.size is not None:
        check_frame_size(*options.size, runtime.settings)
    choose_frame_model(runtime, options)
    session = sessions.open(request.scope["owner"], options)
    response.headers["Location"] = f"/v1/sessions/{session.id}"
    ticket = sessions.issue_ticket(session)
    return OpenedSession(**describe_session(sessions, session), ticket=ticket)


@router.put(
    "/v1/sessions/{session_id}/chunks/{sequence}",
    summary="Send a chunk, get the frames that are ready",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            CLIP: FILE
                            | {
                                "description": "a clip of its own: MP4, fragmented MP4, WebM, "
                                "Matroska, MPEG-TS",
                            },
                            FRAME: {
                                "type": "array",
                                "items": FILE,
                                "description": "or pictures in order: JPEG, PNG, WebP",
                            },
                        },
                    }
                },
                "application/octet-stream": {
                    "schema": FILE | {"description": "the clip alone, also as video/*"}
                },
            },
        }
    },
)
async def send_chunk(
    request: Request,
    runtime: RuntimeDependency,
    sessions: SessionsDependency,
    session_id: str,
    sequence: int = Path(ge=0, lt=2**53),
) -> Response:
    """Take a clip of its own, raw or as `file`, or pictures as `frame` parts. The frames that are
    ready come back: with smoothing one less than came in chunk 0, then as many as came.

    A chunk is applied whole or not at all. The same number with the same bytes is answered again
    and not applied twice: send a chunk again when its answer did not come. Errors 409 name the
    `expected_sequence`."""
    owner = request.scope["owner"]
    with sessions.use(owner, session_id) as session:
        refuse_finished(session)  # before a long upload
        settings = runtime.settings
        accepted = Accepted(
            "video",
            (CLIP, FRAME),
            settings.chunk_max_bytes,
            most=2 * settings.chunk_max_frames,  # so that the answer can say how many there were
            least=0,
        )
        async with read_upload(request, accepted) as upload:
            chunk = await sort_parts(runtime, upload)
            work = apply_chunk(runtime, sessions, session, sequence, chunk)
            answer = await run_until_disconnect(
                request, work, timeout_s=runtime.settings.chunk_timeout_s
            )
    return respond(runtime, answer)


@router.post(
    "/v1/sessions/{session_id}/finish",
    summary="Get the last frame and end the session",
    response_class=Response,
    responses=ANSWERS,
)
async def finish(
    request: Request, runtime: RuntimeDependency, sessions: SessionsDependency, session_id: str
) -> Response:
    """Answer the delayed frame, if there is one. The same answer comes again until the session
    expires; every other call is answered 410 from now on."""
    with sessions.use(request.scope["owner"], session_id) as session:
        async for _ in request.stream():  # only then can a disconnect be waited for
            pass
        work = finish_session(runtime, sessions, session)
        answer = await run_until_disconnect(
            request, work, timeout_s=runtime.settings.chunk_timeout_s
        )
    return respond(runtime, answer)


@router.get("/v1/sessions/{session_id}", summary="State of a session")
async def show_session(
    request: Request, sessions: SessionsDependency, session_id: str
) -> SessionDocument:
    """Say which chunk comes next and when the session expires; asking does not keep it alive."""
    session = sessions.find(request.scope["owner"], session_id)
    refuse_finished(session)
    return SessionDocument(**describe_session(sessions, session))


@router.delete("/v1/sessions/{session_id}", status_code=204, summary="Drop a session")
async def drop_session(request: Request, sessions: SessionsDependency, session_id: str) -> None:
    """End the session at once and forget all of it; a chunk in progress is answered 410."""
    session = sessions.find(request.scope["owner"], session_id)
    sessions.end(session, "was deleted")


@router.post("/v1/sessions/{session_id}/ticket", summary="A ticket for the live socket")
async def issue_ticket(
    request: Request, sessions: SessionsDependency, session_id: str
) -> TicketDocument:
    """Return a secret that admits one live connection to this session within 60 s."""
    with sessions.use(request.scope["owner"], session_id) as session:
        refuse_finished(session)
        ticket = sessions.issue_ticket(session)
        return TicketDocument(ticket=ticket, expires_in_s=TICKET_S)


async def sort_parts(runtime: Runtime, upload: Upload) -> Chunk:
    """Return the chunk of an upload; raises InvalidOption and BadRequest."""
    for name in upload.options:
        raise InvalidOption(
            f"a chunk has no option `{name[:64]}`",
            hint="options are given when the session is opened",
        )
    pictures = [file for file in upload.files if file.part == FRAME]
    if len(upload.files) > 1 and len(pictures) < len(upload.files):
        raise BadRequest(
            f"a chunk is one `{CLIP}`, or any number of `{FRAME}` parts",
            hint="send further clips as chunks of their own",
        )
    files = tuple(file.data for file in upload.files)
    is_clip = len(files) > len(pictures)
    return await runtime.files.run(make_chunk, files, is_clip=is_clip)


def describe_session(sessions: SessionStore, session: Session) -> dict[str, Any]:
    state, options = session.state, session.options
    left = timedelta(seconds=sessions.expires_in_s(session))
    height, width = state.size or (None, None)
    level = choose_level(options.size, options.fps)
    return {
        "id": session.id,
        "next_sequence": state.next_sequence,
        "expires_at": (datetime.now(UTC) + left).isoformat(timespec="milliseconds"),
        "frames_in": state.frames_in,
        "frames_out": state.frames_out,
        "frames_pending": state.frames_pending,
        "scene_cuts": list(state.segment.scene_cuts),
        "scene_cuts_total": state.segment.scene_cuts_total,
        "width": width,
        "height": height,
        "model": state.model or None,
        "buffer_bytes": session.buffer_bytes,
        "mime": describe_mime(level) if options.packaging == "fmp4" else None,
    }


def respond(runtime: Runtime, opened: OpenAnswer) -> Response:
    """Return the HTTP response of an answer."""
    answer = opened.answer
    headers = {**answer.headers, "Content-Length": str(answer.size_bytes)}
    content = stream_file(runtime.files, opened.file)
    return StreamingResponse(content, headers=headers, media_type=answer.content_type)
