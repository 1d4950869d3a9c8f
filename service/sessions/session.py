"""A session: its state between chunks, and the sequence rules."""

import asyncio
import threading
from dataclasses import dataclass, field

from service.errors import ChunkConflict, ChunkOutOfOrder, Conflict, Gone
from service.frames.segment import SegmentState
from service.media.video.writing.fragment_writer import FragmentWriter, count_encoder_bytes
from service.sessions.answers import Answer, AnswerSpool
from service.sessions.chunk import Recording
from service.sessions.options import SessionOptions
from service.sessions.timeline import Timeline


@dataclass(frozen=True)
class SessionState:
    """All that a session is after its last chunk; a chunk replaces it whole or not at all.

    `size` is (height, width) once known. `frames_out` went out in answers. `fragments` counts the
    pieces of the MP4, `has_init` says that its beginning went out. `recording`: the one whose next
    slice may come. `model` is the name of the one that matted the first frame, empty before it, and
    `ref_size` what it was given, None: its own. `notes`: what was mended or converted of the frame
    that waits, of one that came live.
    """

    size: tuple[int, int] | None = None
    next_sequence: int = 0
    segment: SegmentState = SegmentState()
    timeline: Timeline = Timeline()
    frames_out: int = 0
    fragments: int = 0
    has_init: bool = False
    is_finished: bool = False
    recording: Recording | None = None
    model: str = ""
    ref_size: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames_in(self) -> int:
        return self.segment.frames

    @property
    def frames_pending(self) -> int:
        return self.frames_in - self.frames_out


@dataclass(eq=False)
class Session:
    """A session and its locks; times in seconds of the store's clock.

    `users` are requests that keep it from expiring; `lock` is held by the one that changes it,
    `stop` ends its work. `encoder` is the one of packaging=fmp4, None before the first frame and
    after a failure that it saw.
    """

    id: str
    owner: str
    options: SessionOptions
    created_s: float
    used_s: float
    state: SessionState
    users: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    encoder: FragmentWriter | None = None

    @property
    def is_ended(self) -> bool:
        return self.ended.is_set()

    @property
    def buffer_bytes(self) -> int:
        """Bytes of memory that the session holds between chunks."""
        return count_buffer_bytes(self.state, self.encoder)


def count_buffer_bytes(state: SessionState, encoder: FragmentWriter | None) -> int:
    """Return the bytes of what waits between chunks: frame, mattes, encoder, recording."""
    delay, thumbnail = state.segment.delay, state.segment.thumbnail
    total = 0 if thumbnail is None else thumbnail.nbytes
    if delay.previous is not None:
        total += delay.previous.nbytes
    if delay.pending is not None:
        alpha, waiting = delay.pending
        total += alpha.nbytes + waiting.frame.nbytes + waiting.network_image.nbytes
    if state.recording is not None:
        total += state.recording.slices.bytes
    total += sum(array.nbytes for array in state.segment.network)
    if encoder is not None and state.size is not None:
        total += count_encoder_bytes(state.size)
    return total


def find_stored(
    session: Session, sequence: int, digest: bytes, answers: AnswerSpool
) -> Answer | None:
    """Return the answer of a chunk that was applied before, None for the next one.

    Raises Gone after the end, ChunkConflict when another chunk had the number, ChunkOutOfOrder for
    a gap and for a chunk so old that its answer is no longer kept.
    """
    refuse_finished(session)
    expected = session.state.next_sequence
    if sequence == expected:
        return None
    if sequence > expected:
        raise ChunkOutOfOrder(
            f"chunk {sequence} came, chunk {expected} is the next one",
            hint=f"send chunk {expected}",
            expected_sequence=expected,
        )
    stored = answers.find(session.id, sequence)
    if stored is None:
        raise ChunkOutOfOrder(
            f"chunk {sequence} was applied, and its answer is no longer kept",
            hint=f"go on with chunk {expected}",
            expected_sequence=expected,
        )
    if stored.digest != digest:
        raise ChunkConflict(
            f"chunk {sequence} was applied with other bytes",
            hint=f"go on with chunk {expected}",
            expected_sequence=expected,
        )
    return stored


def refuse_finished(session: Session) -> None:
    """Raise Gone once the session is finished."""
    if session.state.is_finished:
        raise Gone("the session is finished", hint="open a new one")


def refuse_empty(session: Session) -> None:
    """Raise Conflict for an end without a beginning."""
    if session.state.frames_in == 0:
        raise Conflict("the session has no frames yet", hint="send chunk 0 first")
