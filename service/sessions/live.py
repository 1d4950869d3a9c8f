"""Live frames of a session: bounded latency, late frames are dropped."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from service.errors import Draining, MattingError
from service.frames.render import Renderer, make_render_options
from service.frames.segment import MattedFrame, PreparedFrame, Smoother
from service.inference.batcher import Matte
from service.inference.lanes import LANES
from service.inference.models import NetworkInput
from service.media.colour.planes import YuvPicture, to_planes
from service.media.image.types import Picture
from service.media.image.writer import encode_frame, encode_image
from service.media.video.types import Image
from service.runtime import Runtime
from service.sessions.apply import choose_session_network
from service.sessions.chunk import check_same_size, make_rate, read_picture
from service.sessions.inbox import Inbox, LiveFrame, Rendezvous
from service.sessions.packaging import PICTURE_COMPRESSION, PICTURE_QUALITY
from service.sessions.session import Session, SessionState
from service.sessions.step import check_buffers, draw_picture
from service.sessions.timeline import ChunkClock, TimedImage
from service.threads import wait_for_thread

RATE_FRAMES = 30  # answers that `fps` is the mean of
BEFORE = -1  # the number of a frame of an earlier connection or chunk


@dataclass(frozen=True)
class LiveAnswer:
    """What goes out: facts as JSON, and the picture unless the frame could not be used."""

    facts: dict[str, Any]
    content: bytes | None = None


@dataclass(frozen=True, eq=False)
class _Matted:
    """A frame and what the decoder and the network made of it, or why they could not."""

    frame: LiveFrame
    result: "_Found | MattingError"


@dataclass(frozen=True, eq=False)
class _Found:
    """A decoded frame, in planes where those are enough, as the network saw it, and its matte."""

    picture: Picture
    planes: YuvPicture | None
    network_image: Image
    matte: Matte


@dataclass(frozen=True, eq=False)
class _Step:
    """The session after a frame, the frame's pts, and what is ready: pts and picture of each."""

    state: SessionState
    pts: int
    pictures: list[tuple[int, bytes]]


class LiveStream:
    """The frames of one connection, which has the session to itself.

    `offer` takes frames, `matte_frames` and `render_frames` run as tasks beside each other, `take`
    returns the answers in order; with smoothing each comes when the next frame has been matted. A
    frame moves on only when the next task is free, so an answer that nobody takes stops the work,
    and frames that come meanwhile are left out. The session's state goes on with every answer:
    chunks and `finish` find the last frame where the connection left it.
    """

    def __init__(
        self, runtime: Runtime, session: Session, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._session = session
        options = session.options
        self._model, self._network = choose_session_network(runtime, session, is_live=True)
        self._network_state = session.state.segment.network
        self._clock = clock
        self._inbox = Inbox(runtime.metrics)
        self._changed = asyncio.Event()  # a frame has come, or has been handed on
        self._working = 0  # frames that are decoded or matted
        self._begun: asyncio.Queue[tuple[LiveFrame, asyncio.Task[_Found]]] = asyncio.Queue()
        self._matted: Rendezvous[_Matted] = Rendezvous()
        self._answers: Rendezvous[LiveAnswer] = Rendezvous()
        self._render_options = make_render_options(options, options.choose_background(None))
        self._renderer: Renderer | None = None
        # The frame that waited in the session when the connection began.
        self._before = LiveFrame(BEFORE, clock(), notes=session.state.notes)
        self._offered = 0
        self._inside: dict[int, LiveFrame] = {}  # by pts: frames whose pictures are not ready
        self._ready_s: deque[float] = deque(maxlen=RATE_FRAMES + 1)

    def offer(self, data: bytes) -> None:
        """Take a frame that has just arrived: an image file."""
        self._inbox.put(LiveFrame(self._offered, self._clock(), data))
        self._offered += 1
        self._changed.set()

    async def take(self) -> LiveAnswer:
        """Return the next answer once there is one."""
        return await self._answers.take()

    async def matte_frames(self) -> None:
        """Decode frames and run the network on them, for ever; raises Draining."""
        beginning = asyncio.create_task(self._begin_frames())
        running: set[asyncio.Task[Any]] = {beginning}
        try:
            while True:
                frame, run = await self._begun.get()
                running.add(run)
                result: _Found | MattingError
                try:
                    result = await run
                except Draining:
                    raise
                except MattingError as error:
                    result = error
                running.discard(run)
                await self._matted.give(_Matted(frame, result))
                self._working -= 1
                self._changed.set()
        finally:
            while not self._begun.empty():
                running.add(self._begun.get_nowait()[1])
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _begin_frames(self) -> None:
        """Begin with a frame while fewer than LANES are worked on.

        With one alone while others wait for the network: it has enough to do, and the frame would
        only grow old. A recurrent network needs the frame before first.
        """
        model = self._model
        while True:
            most = 1 if model.info.is_recurrent or model.waiting else LANES
            frame = self._inbox.take() if self._working < most else None
            if frame is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._working += 1
            self._begun.put_nowait((frame, asyncio.create_task(self._matte(frame))))

    async def render_frames(self) -> None:
        """Smooth, render and encode what is matted, for ever."""
        while True:
            matted = await self._matted.take()
            try:
                if isinstance(matted.result, MattingError):
                    raise matted.result
                answers = await self._render(matted.frame, matted.result)
            except MattingError as error:
                problem = {"problem": error.describe()}
                answers = [LiveAnswer(self._describe(matted.frame) | problem)]
            for answer in answers:
                await self._answers.give(answer)

    async def _matte(self, frame: LiveFrame) -> _Found:
        """Decode a frame and run the network on it."""
        runtime = self._runtime
        # A child that is left half-way would have to be replaced: leaving waits for its answer.
        picture = await wait_for_thread(asyncio.ensure_future(self._decode(frame.data)))
        planes, tensor, network_image = await runtime.workers.run(self._prepare, picture)
        matte = await self._network.matte(tensor, self._network_state)
        self._network_state = matte.state
        runtime.metrics.frames.labels("live").inc()
        return _Found(picture, planes, network_image, matte)

    def _prepare(self, picture: Picture) -> tuple[YuvPicture | None, NetworkInput, Image]:
        """Return the picture in planes where those are enough, and what the network is given."""
        planes = to_planes(picture.image) if self._are_planes_enough(picture) else None
        return planes, *self._network.prepare(planes or picture.flat)

    def _are_planes_enough(self, picture: Picture) -> bool:
        """Whether the answer is a JPEG of the matte, or of the person before something plain.

        There colour is halved anyway.
        """
        options = self._session.options
        height, width = picture.image.shape[:2]
        is_even = height % 2 == width % 2 == 0 and picture.alpha is None
        is_composite = options.output == "composite" and self._render_options.is_plain
        return is_even and options.format == "jpeg" and (is_composite or options.output == "alpha")

    async def _decode(self, data: bytes) -> Picture:
        runtime = self._runtime
        async with runtime.decoders.borrow("still") as decoder:
            return await runtime.workers.run(read_picture, decoder, data, runtime.settings)

    async def _render(self, frame: LiveFrame, found: _Found) -> list[LiveAnswer]:
        """Take the session one frame on and return the answers that are ready."""
        notes = tuple(found.picture.list_changes())
        step = await self._runtime.workers.run(self._step, self._session.state, found, notes)
        self._session.state = step.state
        runtime = self._runtime
        runtime.access.charge(self._session.owner, "video-seconds", 1 / self._session.options.fps)
        self._inside[step.pts] = LiveFrame(frame.number, frame.arrived_s, notes=notes)
        return [self._answer(pts, content) for pts, content in step.pictures]

    def _step(self, state: SessionState, found: _Found, notes: tuple[str, ...]) -> _Step:
        """Return where a frame takes the session; runs in a thread and changes nothing."""
        options, picture, matte = self._session.options, found.picture, found.matte
        size = picture.image.shape[0], picture.image.shape[1]
        check_same_size(size, state.size or size)
        clock, length_s = ChunkClock(state.timeline, absolute=False), 1 / make_rate(options.fps)
        frame = clock.place(TimedImage(Fraction(0), length_s, picture.image, picture.alpha))
        if found.planes is not None:
            frame = replace(frame, picture=found.planes)
        ready: list[MattedFrame] = []
        smoother = Smoother(options.flicker_threshold, state.segment, ready.append)
        smoother.add(PreparedFrame(frame, found.network_image), matte.alpha)
        if self._renderer is None:
            self._renderer = Renderer(self._render_options, *size)
        pictures = [(item.frame.pts, self._draw(self._renderer, item)) for item in ready]
        after = replace(
            state,
            size=size,
            segment=replace(smoother.state, network=matte.state),
            model=self._model.info.name,
            ref_size=self._network.ref_size,
            timeline=clock.timeline,
            frames_out=state.frames_out + len(ready),
            notes=notes if smoother.state.delay.pending else (),
        )
        check_buffers(after, self._session.encoder, self._runtime.settings)
        return _Step(after, frame.pts, pictures)

    def _draw(self, renderer: Renderer, item: MattedFrame) -> bytes:
        options, rendered = self._session.options, renderer.render(item)
        if item.frame.planes is not None and options.output == "composite":
            picture = rendered.draw("composite")
            rgb = picture.to_blocks() if isinstance(picture, YuvPicture) else picture
            return encode_frame(rgb, PICTURE_QUALITY)
        return encode_image(
            draw_picture(rendered, options),
            options.format,
            quality=PICTURE_QUALITY,
            compression=PICTURE_COMPRESSION,
        )

    def _answer(self, pts: int, content: bytes) -> LiveAnswer:
        """Return the answer that is ready now, with its times."""
        ready_s = self._clock()
        self._ready_s.append(ready_s)
        frame = self._inside.pop(pts, self._before)
        first_s, frames = self._ready_s[0], len(self._ready_s) - 1
        times = {
            "latency_ms": round((ready_s - frame.arrived_s) * 1000, 1),
            "fps": round(frames / (ready_s - first_s), 2) if ready_s > first_s else 0.0,
        }
        return LiveAnswer(self._describe(frame) | times, content)

    def _describe(self, frame: LiveFrame) -> dict[str, Any]:
        told = {"notes": list(frame.notes)} if frame.notes else {}
        return {"frame": frame.number, "dropped": self._inbox.dropped} | told
