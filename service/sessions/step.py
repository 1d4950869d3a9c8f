"""Compute the result of one chunk; blocks its thread."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from service.errors import (
    Gone,
    ImpossibleOutput,
    MediaLimitExceeded,
)
from service.frames.network import Network
from service.frames.render import Pixels, RenderedFrame, Renderer, make_render_options
from service.frames.segment import MattedFrame, Segment, SegmentStopped, process_piece
from service.inference.registry import Model
from service.media.audio.types import AudioPacket
from service.media.decoder.client import Decoder
from service.media.video.labels import ClipLabels
from service.media.video.repairs import describe_in_headers
from service.media.video.types import VideoFrame
from service.media.video.writing.fragment_writer import (
    FragmentWriteError,
    FragmentWriter,
    choose_level,
)
from service.sessions.answers import Answer, AnswerSpool
from service.sessions.chunk import Chunk, ChunkReader, Recording, check_same_size
from service.sessions.options import SessionOptions
from service.sessions.packaging import EmptyPackager, FragmentPackager, Packager, PicturePackager
from service.sessions.session import Session, SessionState, count_buffer_bytes
from service.sessions.timeline import ChunkClock
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkResult:
    """Where a chunk takes a session; its complete answer is open as `file`, at its start."""

    state: SessionState
    encoder: FragmentWriter | None
    answer: Answer
    file: BinaryIO


@dataclass(frozen=True)
class ChunkTask:
    """What a chunk is worked on with; without `chunk` and `decoder` it is the session's end."""

    settings: Settings
    network: Network
    model: Model
    answers: AnswerSpool
    session: Session
    chunk: Chunk | None = None
    decoder: Decoder | None = None


def compute_step(task: ChunkTask) -> ChunkResult:
    """Return the step that a chunk makes; the session stays as it is, and on an error no file.

    Raises the errors of the decoder, the batcher and the disk, ImpossibleOutput,
    MediaLimitExceeded, and Gone once the session's `stop` is set. An encoder that has seen frames
    of a failed chunk is taken from the session: the next chunk begins with a new one.
    """
    session = task.session
    path, file = task.answers.create()
    with ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        undo.callback(file.close)
        undo.callback(_drop_fed_encoder, session, session.encoder.frames if session.encoder else 0)
        run = _ChunkProcessor(task, file)
        with _explained():
            state = run.process()
        headers = describe_step(session.state, state, run.told) | {
            "X-Model": state.model,
            "X-Provider": str(task.model.provider),
        }
        digest = b"" if task.chunk is None else task.chunk.digest
        answer = Answer(path, file.tell(), run.packager.content_type, headers, digest)
        file.seek(0)
        undo.pop_all()
        return ChunkResult(state, run.encoder, answer, file)


def _drop_fed_encoder(session: Session, frames_before: int) -> None:
    """Take an encoder from its session that has seen frames which nobody will get."""
    if session.encoder is not None and session.encoder.frames != frames_before:
        session.encoder = None


class _ChunkProcessor:
    """The work on one chunk: `read` runs in the reader's thread, `write` in the writer's."""

    def __init__(self, task: ChunkTask, file: BinaryIO) -> None:
        session = task.session
        options, state = session.options, session.state
        self._task = task
        self._file = file
        self._size = state.size
        is_clip = task.chunk is not None and task.chunk.is_clip
        self._is_absolute = is_clip and options.timestamps == "absolute"
        self._clock = ChunkClock(state.timeline, absolute=self._is_absolute)
        self._recording = state.recording
        self.told: dict[str, Any] = {}
        self._labels = ClipLabels()
        self._renderer: Renderer | None = None
        self._packager: Packager | None = None
        self._frames_out = 0
        self.encoder = session.encoder

    def process(self) -> SessionState:
        """Write the whole answer and return the state after it."""
        task, session = self._task, self._task.session
        state, is_last = session.state, self._task.chunk is None
        options = session.options
        segment = process_piece(
            self._read(),
            Segment(task.network, options.flicker_threshold, options.existing_alpha == "return"),
            self._write,
            session.stop,
            state.segment,
            is_last=is_last,
        )
        if state.notes and self._frames_out:
            notes = [f"the last live frame: {note}" for note in state.notes]
            self.told["notes"] = notes + self.told.get("notes", [])
        pending = segment.delay.pending
        fragments = state.fragments + (self._frames_out > 0)
        self.packager.close(None if pending is None else pending[1].frame)
        after = SessionState(
            size=self._size,
            next_sequence=state.next_sequence + (not is_last),
            segment=segment,
            timeline=self._clock.timeline,
            frames_out=state.frames_out + self._frames_out,
            fragments=fragments,
            has_init=state.has_init or self._size is not None,
            is_finished=is_last,
            recording=None if is_last else self._recording,
            model=task.model.info.name,
            ref_size=task.network.ref_size,
        )
        check_buffers(after, self.encoder, task.settings)
        return after

    @property
    def packager(self) -> Packager:
        """The packager, made once the size of the frames is known."""
        if self._packager is None:
            self._packager = self._make_packager()
        return self._packager

    def _read(self) -> Iterator[VideoFrame]:
        task = self._task
        if task.chunk is None or task.decoder is None:
            return
        state, options = task.session.state, task.session.options
        reader = ChunkReader(task.decoder, task.chunk, task.settings, options, state.recording)
        for timed in reader.read():
            if reader.frames == 1 and reader.recording is not None:
                shift_s = reader.recording.shift_s
                absolute = self._is_absolute
                self._clock = ChunkClock(state.timeline, absolute=absolute, shift_s=shift_s)
            found = timed.image.shape[0], timed.image.shape[1]
            check_same_size(found, self._size or found)
            self._size, self._labels = found, reader.labels
            yield self._clock.place(timed)
        self.told = reader.repairs.describe() | reader.changes
        self._recording = self._follow(reader)

    def _follow(self, reader: ChunkReader) -> Recording | None:
        """Return what the next slice of the recording needs, None without a recording.

        A recording with few key frames would fill what a session may hold; it has to begin anew.
        """
        limit_bytes = self._task.settings.session_buffer_mb * 2**20 // 2
        if reader.slices is None or reader.slices.bytes > limit_bytes:
            return None
        if self._clock.shift_s is not None and reader.frames > 0:
            return Recording(reader.slices, reader.last_s, self._clock.shift_s)
        before = reader.recording or Recording(reader.slices)
        return replace(before, slices=reader.slices)

    def _write(self, item: MattedFrame | AudioPacket) -> None:
        if isinstance(item, AudioPacket):
            return
        options = self._task.session.options
        if self._renderer is None:
            self._renderer = make_renderer(options, *item.frame.image.shape[:2])
        rendered = self._renderer.render(item)
        self.packager.add(item.frame, draw_picture(rendered, options))
        self._frames_out += 1

    def _make_packager(self) -> Packager:
        options, state = self._task.session.options, self._task.session.state
        max_bytes = self._task.settings.session_buffer_mb * 2**20
        if options.packaging == "frames":
            return PicturePackager(self._file, options.format, state.frames_out, max_bytes)
        if self._size is None:  # a slice of a recording without a whole frame
            return EmptyPackager()
        if self.encoder is None:
            level = choose_level(options.size, options.fps)
            self.encoder = FragmentWriter(self._size, options.fps, level, self._labels)
        return FragmentPackager(
            self._file,
            self.encoder,
            state.fragments + 1,
            has_init=state.has_init,
            max_bytes=max_bytes,
        )


def make_renderer(options: SessionOptions, height: int, width: int) -> Renderer:
    """Return what renders the frames of a session, (height, width) each."""
    render_options = make_render_options(options, options.choose_background(None))
    return Renderer(render_options, height, width)


def draw_picture(rendered: RenderedFrame, options: SessionOptions) -> Pixels:
    """Return the output of a session as a picture of its own: a matte is (H, W)."""
    if options.output == "alpha":
        return rendered.grey
    return rendered.get(options.output)


def describe_step(
    before: SessionState, after: SessionState, told: Mapping[str, Any]
) -> dict[str, str]:
    """Return the headers of an answer: what this chunk did, what waits, what comes next.

    `told`: what had to be repaired or was converted, where there was something.
    """
    return describe_in_headers(told) | {
        "X-Frames-In": str(after.frames_in - before.frames_in),
        "X-Frames-Out": str(after.frames_out - before.frames_out),
        "X-Frames-Pending": str(after.frames_pending),
        "X-Next-Sequence": str(after.next_sequence),
        "X-Scene-Cuts": str(after.segment.scene_cuts_total - before.segment.scene_cuts_total),
    }


def check_buffers(state: SessionState, encoder: FragmentWriter | None, settings: Settings) -> None:
    """Refuse frames so large that a session would hold too much; raises MediaLimitExceeded."""
    held, limit = count_buffer_bytes(state, encoder), settings.session_buffer_mb * 2**20
    if held > limit:
        raise MediaLimitExceeded(
            f"frames of this size take {held} bytes of memory between chunks, the limit is {limit}",
            hint="send smaller frames, or ask for packaging=frames, which needs no encoder",
            limit=limit,
            actual=held,
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what a failure means for the request."""
    try:
        yield
    except SegmentStopped:
        raise Gone("the session ended while its chunk was worked on") from None
    except FragmentWriteError as error:
        log.warning("frames of a session could not be written", exc_info=error)
        raise ImpossibleOutput(
            "frames like these cannot be written as H.264", hint="ask for packaging=frames"
        ) from error
