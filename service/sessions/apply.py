"""Apply chunks to sessions: one at a time, all or nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from service.errors import Gone, Overloaded
from service.frames.network import FrameNetwork, choose_frame_model, choose_live_ref_size
from service.inference.fair_queue import Caller
from service.inference.registry import Model
from service.media.decoder.client import Decoder
from service.runtime import Runtime
from service.sessions.answers import Answer
from service.sessions.chunk import Chunk
from service.sessions.session import Session, find_stored, refuse_empty
from service.sessions.step import ChunkResult, ChunkTask, compute_step
from service.sessions.store import SessionStore
from service.telemetry.record import trace_stage
from service.threads import start_in, wait_for_thread


@dataclass(frozen=True)
class OpenAnswer:
    """An answer and its file, open at its start, for the caller to close."""

    answer: Answer
    file: BinaryIO


async def apply_chunk(
    runtime: Runtime, store: SessionStore, session: Session, sequence: int, chunk: Chunk
) -> OpenAnswer:
    """Apply a chunk, or return the stored answer when that was done before.

    The session is in use by the caller. Raises the errors of `find_stored` and `compute_step`,
    InProgress and Overloaded; the session is then as before. Cancelled, it is too, and the thread
    has ended.
    """
    async with store.hold(session):
        stored = find_stored(session, sequence, chunk.digest, store.answers)
        if stored is not None:
            return await reopen(runtime, stored)
        async with borrow_decoder(runtime) as decoder:
            return await compute_and_commit(runtime, store, session, chunk, decoder)


async def finish_session(runtime: Runtime, store: SessionStore, session: Session) -> OpenAnswer:
    """Answer the delayed frame and end the session, or return the stored last answer.

    Raises Conflict before the first frame, and what `apply_chunk` raises.
    """
    async with store.hold(session):
        if session.state.is_finished:
            answers, last = store.answers, session.state.next_sequence
            return await reopen(runtime, answers.find(session.id, last))
        refuse_empty(session)
        answer = await compute_and_commit(runtime, store, session, None, None)
        store.finish(session)
        return answer


def choose_session_network(
    runtime: Runtime, session: Session, *, is_live: bool = False
) -> tuple[Model, FrameNetwork]:
    """Return the session's model and how its frames are given to it: as the first frame was."""
    options, state = session.options, session.state
    if state.model:
        model, ref_size = runtime.models[state.model], state.ref_size
    else:
        model = choose_frame_model(runtime, options, is_live=is_live)
        ref_size = options.ref_size
        if is_live:
            ref_size = choose_live_ref_size(runtime, options, model.info)
    caller = Caller("live" if is_live else "clip", session.owner)
    return model, FrameNetwork(runtime.settings, model, ref_size, options.region, caller)


async def compute_and_commit(
    runtime: Runtime,
    store: SessionStore,
    session: Session,
    chunk: Chunk | None,
    decoder: Decoder | None,
) -> OpenAnswer:
    """Compute a chunk, or the end, and make it the session's state; the caller holds it."""
    model, network = choose_session_network(runtime, session)
    await model.load()
    task = ChunkTask(runtime.settings, network, model, store.answers, session, chunk, decoder)
    run = start_in(store.threads, compute_step, task)

    def end() -> None:
        session.stop.set()
        if decoder is not None:
            decoder.kill()

    try:
        with trace_stage("chunk"):
            step = await wait_for_thread(run, on_cancel=end)
    except asyncio.CancelledError:
        session.stop.clear()
        if not run.cancelled() and run.exception() is None:  # it was ready, and nobody will read it
            discard(session, run.result())
        raise
    return commit(runtime, store, session, step)


def commit(
    runtime: Runtime, store: SessionStore, session: Session, step: ChunkResult
) -> OpenAnswer:
    """Make the step the session's state and keep its answer, both or neither."""
    before = session.state
    if session.is_ended:
        discard(session, step)
        raise Gone("the session was deleted", hint="open a new one")
    session.state, session.encoder = step.state, step.encoder
    used_s = max(0.0, float(step.state.timeline.end_s - before.timeline.end_s))
    runtime.access.charge(session.owner, "video-seconds", used_s)
    if step.state.is_finished:
        session.encoder = None
        store.answers.drop(session.id)
    store.answers.keep(session.id, before.next_sequence, step.answer)
    runtime.metrics.frames.labels("session").inc(step.state.frames_in - before.frames_in)
    return OpenAnswer(step.answer, step.file)


def discard(session: Session, step: ChunkResult) -> None:
    """Forget a step; its encoder too, which has seen frames that nobody will get."""
    session.encoder = None
    step.file.close()
    step.answer.path.unlink(missing_ok=True)


async def reopen(runtime: Runtime, answer: Answer | None) -> OpenAnswer:
    """Open a stored answer once more; raises Gone when the session ended in between."""
    try:
        if answer is not None:
            return OpenAnswer(answer, await runtime.files.run(answer.path.open, "rb"))
    except FileNotFoundError:
        pass
    raise Gone("the answer is no longer kept", hint="open a new session")


@asynccontextmanager
async def borrow_decoder(runtime: Runtime) -> AsyncIterator[Decoder]:
    """Lend a decoder child for a chunk; raises Overloaded when none becomes free in time."""
    wait_s = runtime.settings.request_timeout_s
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(wait_s):
                decoder = await stack.enter_async_context(runtime.decoders.borrow("chunk"))
        except TimeoutError:
            runtime.metrics.requests_rejected.labels("overloaded").inc()
            limit = runtime.settings.max_chunks
            raise Overloaded(
                f"{limit} chunks are worked on, the limit, and none was done within {wait_s:g} s",
                hint="send the chunk again after Retry-After seconds",
                limit=limit,
                actual=limit,
                retry_after_s=wait_s,
            ) from None
        yield decoder
