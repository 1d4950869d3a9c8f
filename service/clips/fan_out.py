"""Write each frame to several result files, one writer thread for each."""

import io
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from service.clips.outputs import OUTPUTS, open_writer
from service.clips.plan import ClipPlan
from service.errors import InsufficientStorage
from service.frames.overlap import WriteBehind
from service.frames.render import PictureName
from service.media.audio.types import AudioPacket
from service.media.colour.planes import YuvPicture
from service.media.video.types import Image, VideoInfo
from service.media.video.writing.result_writer import FrameTime, ResultWriter

# Pictures that wait for each encoder; of the same picture all hold one copy.
WAITING_PICTURES = 2


@dataclass(frozen=True, eq=False)
class Picture:
    """What a writer takes, for `pts` and `duration` in ticks of the clip."""

    image: Image | YuvPicture
    pts: int
    duration: int | None


@dataclass(frozen=True, eq=False)
class CodedPart:
    """Frames that were coded elsewhere, the file of one output, and when they are shown.

    `audio` are packets with the number of these frames that come before each.
    """

    content: bytes
    times: Sequence[FrameTime]
    audio: Sequence[tuple[int, AudioPacket]]


class FanOut:
    """The files of all results of a clip; leaving the `with` block with an error removes them.

    Used from one thread. Raises VideoWriteError as soon as one result cannot be written, and
    InsufficientStorage when all together have more than `limit_bytes`.
    """

    def __init__(
        self,
        plan: ClipPlan,
        folder: Path,
        info: VideoInfo,
        limit_bytes: int,
    ) -> None:
        self._names = plan.outputs
        self._limit_bytes = limit_bytes
        self._open = partial(
            open_writer, folder=folder, info=info, crf=plan.crf, preset=plan.preset
        )
        self._queues: list[tuple[PictureName, WriteBehind[Item]]] = []
        self._stack = ExitStack()
        self.writers: list[ResultWriter] = []

    def write_frame(
        self, draw: Callable[[PictureName], Image | YuvPicture], pts: int, duration: int | None
    ) -> None:
        """Hand a frame's pictures, uint8, RGB, RGBA, grey or planes, to the writers."""
        check_size(self.writers, self._limit_bytes)
        for picture, queue in self._queues:
            queue.put(Picture(draw(picture), pts, duration))

    def copy_frames(
        self,
        contents: Sequence[bytes],
        times: Sequence[FrameTime],
        audio: Sequence[tuple[int, AudioPacket]],
    ) -> None:
        """Hand coded frames to the writers: for each output a file of its kind, as CodedPart."""
        check_size(self.writers, self._limit_bytes)
        for content, (_, queue) in zip(contents, self._queues, strict=True):
            queue.put(CodedPart(content, times, audio))

    def write_audio(self, packet: AudioPacket) -> None:
        for _, queue in self._queues:
            queue.put(packet)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in self._names:
                writer = stack.enter_context(self._open(name))
                queue = WriteBehind(_feed(writer), WAITING_PICTURES)
                self._queues.append((OUTPUTS[name].picture, stack.enter_context(queue)))
                self.writers.append(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except BaseException:
            self._remove()
            raise
        if error is not None:
            self._remove()

    def _remove(self) -> None:
        """One result that failed takes those with it that were finished before."""
        for writer in self.writers:
            writer.path.unlink(missing_ok=True)


def check_size(writers: Sequence[ResultWriter], limit_bytes: int) -> None:
    """Refuse results that grow too large: PNGs and ProRes have hundreds of times the clip's bytes.

    Raises InsufficientStorage.
    """
    size_bytes = sum(_count_bytes(writer.path) for writer in writers)
    if size_bytes > limit_bytes:
        raise InsufficientStorage(
            f"the results have {size_bytes} bytes or more, the limit is {limit_bytes}",
            hint="ask for fewer outputs, for a part by start and end, or for a lower max_fps",
            limit=limit_bytes,
            actual=size_bytes,
        )


def _count_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # its thread has just given it up, and says why at the next picture
        return 0


Item = Picture | CodedPart | AudioPacket


def _feed(writer: ResultWriter) -> Callable[[Item], None]:
    def feed(item: Item) -> None:
        if isinstance(item, AudioPacket):
            writer.write_audio(item)
        elif isinstance(item, CodedPart):
            _copy(item, writer)
        else:
            writer.write_frame(item.image, item.pts, item.duration)

    return feed


def _copy(part: CodedPart, writer: ResultWriter) -> None:
    """Write the frames of a part, and each packet of its audio where it came."""
    audio = deque(part.audio)

    def write_audio_before(frame: int) -> None:
        while audio and audio[0][0] <= frame:
            writer.write_audio(audio.popleft()[1])

    writer.copy_frames(io.BytesIO(part.content), part.times, write_audio_before)
    write_audio_before(len(part.times))
