"""Sessions, written once: chunks of a video in, its frames or the pieces of one MP4 out."""

import email
import email.policy
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import httpx

from matting_client.core import Call, Core
from matting_client.errors import Gone, NotFound
from matting_client.inputs import File, Photo, take_file, take_photo
from matting_client.results import Frame

SESSIONS = "/v1/sessions"
T = TypeVar("T")
# A clip of its own, or pictures in order.
Chunk: TypeAlias = File | Sequence[Photo]
MULTIPART = "multipart/mixed"


@dataclass(frozen=True)
class ChunkAnswer:
    """The answer to a chunk: `frames` with packaging="frames", else `content` is a piece of MP4.

    `frames_pending` frames wait for the next chunk. `notes`: what of its pictures was mended or
    converted, None: nothing.
    """

    content: bytes = field(repr=False)
    frames: tuple[Frame, ...]
    frames_in: int
    frames_out: int
    frames_pending: int
    scene_cuts: int
    notes: str | None = None


async def open_session(core: Core, given: Mapping[str, Any]) -> "SessionCore":
    """Open a session; one whose answer was lost ends by itself."""
    call = Call("POST", SESSIONS, json=dict(given), is_repeatable=False)
    return SessionCore(core, (await core.send(call)).json())


class SessionCore:
    """One session; `opened` is the document that opened it."""

    def __init__(self, core: Core, opened: dict[str, Any]) -> None:
        self.core = core
        self.opened = opened
        self._next = 0

    @property
    def id(self) -> str:
        return cast(str, self.opened["id"])

    @property
    def path(self) -> str:
        return f"{SESSIONS}/{self.id}"

    @property
    def mime(self) -> str | None:
        return cast("str | None", self.opened["mime"])

    async def send(self, chunk: Chunk) -> ChunkAnswer:
        """Send the next chunk. It is applied once, however often it has to be sent."""
        work = self.core.transport.work
        if isinstance(chunk, (list, tuple)):
            parts = [("frame", await work(take_photo, one)) for one in chunk]
        else:
            parts = [("file", await work(take_file, chunk))]
        call = Call("PUT", f"{self.path}/chunks/{self._next}", files=tuple(parts))
        answer = read_answer(await self.core.send(call))
        self._next += 1
        return answer

    async def finish(self) -> ChunkAnswer:
        """End the session; the answer has the frame that waited, if one did."""
        return read_answer(await self.core.send(Call("POST", f"{self.path}/finish")))

    async def drop(self) -> None:
        """Forget the session; nothing if it has ended."""
        with suppress(NotFound, Gone):
            await self.core.send(Call("DELETE", self.path))

    async def answers(self, chunks: "Source[Chunk]") -> AsyncGenerator[ChunkAnswer]:
        """Yield the answer to each chunk, and that of the end."""
        async for chunk in each(chunks):
            yield await self.send(chunk)
        yield await self.finish()

    async def frames(self, chunks: "Source[Chunk]") -> AsyncGenerator[Frame]:
        """Yield each frame of all chunks, in order."""
        if self.mime is not None:
            raise ValueError('frames come with packaging="frames"; else there are pieces of an MP4')
        async for answer in self.answers(chunks):
            for frame in answer.frames:
                yield frame

    async def pieces(self, chunks: "Source[Chunk]") -> AsyncGenerator[bytes]:
        """Yield the pieces of one MP4; written one after another they are a file."""
        if self.mime is None:
            raise ValueError('pieces of an MP4 come with packaging="fmp4"; else there are frames')
        async for answer in self.answers(chunks):
            if answer.content:
                yield answer.content


Source: TypeAlias = Iterable[T] | AsyncIterable[T]


async def each(items: "Source[T]") -> AsyncIterator[T]:
    """Yield the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def read_answer(response: httpx.Response) -> ChunkAnswer:
    """Return the answer to a chunk."""
    told = response.headers
    is_frames = told.get("content-type", "").startswith(MULTIPART)
    frames = read_frames(told["content-type"], response.content) if is_frames else ()
    return ChunkAnswer(
        b"" if is_frames else response.content,
        frames,
        int(told["x-frames-in"]),
        int(told["x-frames-out"]),
        int(told["x-frames-pending"]),
        int(told["x-scene-cuts"]),
        told.get("x-notes"),
    )


def read_frames(content_type: str, body: bytes) -> tuple[Frame, ...]:
    """Return the parts of a multipart body (RFC 2046) as frames."""
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    if b"--" + (message.get_boundary() or "").encode() + b"--" == body.strip():
        return ()  # the parser takes an end without parts for a part
    return tuple(
        Frame(
            cast(bytes, part.get_payload(decode=True)),
            part.get_content_type(),
            int(part["X-Frame"]),
            float(part["X-Timestamp"]),
        )
        for part in message.iter_parts()
    )
