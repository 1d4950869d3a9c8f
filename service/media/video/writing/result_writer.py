"""Base class of result writers: accept frames and audio, finish the file or remove it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np

from service.media.audio.types import AudioPacket
from service.media.colour.planes import YuvPicture
from service.media.video.types import Image, VideoInfo

FrameTime = tuple[int, int | None]  # pts and duration, ticks of the clip
_ENCODE_ERRORS = (av.FFmpegError, OSError, ValueError, MemoryError, OverflowError)


class VideoWriteError(Exception):
    """The result could not be written; the cause is chained (an OSError has its errno).

    `file` is the name of the result.
    """

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file = file


class ResultLimit(ValueError):
    """The format of a result holds no such clip; `hint` is what to do."""

    def __init__(self, what: str, limit: float, actual: float, hint: str) -> None:
        super().__init__(f"it would have {actual:g} {what}, the limit is {limit:g}")
        self.limit, self.actual, self.hint = limit, actual, hint


class ResultWriter(ABC):
    """Writes one file; used from one thread; as a context manager it closes or aborts.

    `info`: the clip as the reader describes it; frames are (info.height, info.width, `channels`)
    uint8, RGB or straight RGBA; in place of RGB also (info.height, info.width), grey, or planes of
    that size. `padded` says
    how many pixels were added right and below, `width` and `height` are the file's.
    """

    def __init__(self, path: Path, info: VideoInfo, *, channels: int) -> None:
        self.path = path
        self.padded = 0, 0
        self.width, self.height = info.width, info.height
        self._info = info
        size = info.height, info.width
        self._shapes = [(*size, channels), *([size] if channels == 3 else [])]
        self._last_pts: int | None = None
        self._closed = self._finished = False

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the pictures in the file without what was padded."""
        return self.width - self.padded[0], self.height - self.padded[1]

    def write_frame(self, image: Image | YuvPicture, pts: int, duration: int | None) -> None:
        """Encode one frame; `pts` and `duration` in ticks of the clip.

        `pts` increases from frame to frame. Raises VideoWriteError; the file is then gone.
        """
        with self._abort_on_error():
            if not self._takes(image):
                raise ValueError("a frame of another size or type")
            self._check_time(pts)
            self._write_frame(image, pts, duration)

    def copy_frames(
        self, file: BinaryIO, times: Sequence[FrameTime], on_frame: Callable[[int], None]
    ) -> None:
        """Take over the frames that another writer of this kind has coded in `file`.

        They follow those before and are shown at `times` of this clip, whatever the file says;
        `on_frame` is told their number before each. Raises VideoWriteError, also when they are not
        as many as `times`; the file is then gone.
        """
        with self._abort_on_error():
            for pts, _ in times:
                self._check_time(pts)
            self._copy_frames(file, times, on_frame)

    def _takes(self, image: Image | YuvPicture) -> bool:
        if isinstance(image, YuvPicture):
            return image.size in self._shapes  # which has it where RGB is taken
        return image.shape in self._shapes and image.dtype == np.uint8

    def write_audio(self, packet: AudioPacket) -> None:
        """Copy one packet of audio, if the result carries its track. Raises VideoWriteError."""
        with self._abort_on_error():
            if packet.track >= len(self._info.audio):
                raise ValueError("a packet of an unknown audio track")
            self._write_audio(packet)

    def close(self) -> None:
        """Finish the file; again: nothing. Raises VideoWriteError, also without any frame."""
        if self._finished:
            return
        with self._abort_on_error():
            if self._last_pts is None:
                raise ValueError("no frame was written")
            self._finish()
            self._closed = self._finished = True

    def abort(self) -> None:
        """Stop and remove the file; harmless after close() or abort()."""
        if self._closed:
            return
        self._closed = True
        self.path.unlink(missing_ok=True)  # first, so that the end has nothing to move
        try:
            self._release()
        except _ENCODE_ERRORS:
            pass
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _check_time(self, pts: int) -> None:
        if pts <= (self._info.origin_pts - 1 if self._last_pts is None else self._last_pts):
            raise ValueError("timestamps of frames must increase, from the clip's origin on")
        self._last_pts = pts

    @contextmanager
    def _abort_on_error(self) -> Iterator[None]:
        if self._closed:
            raise VideoWriteError("The result is closed or was given up.", self.path.name)
        try:
            yield
        except _ENCODE_ERRORS as error:
            self.abort()
            reason = str(error) if type(error) is ValueError else "the encoder or the disk refused"
            text = f"The result could not be written: {reason}."
            raise VideoWriteError(text, self.path.name) from error

    @abstractmethod
    def _write_frame(self, image: Image | YuvPicture, pts: int, duration: int | None) -> None:
        """Encode a frame that has been checked."""

    def _copy_frames(
        self, file: BinaryIO, times: Sequence[FrameTime], on_frame: Callable[[int], None]
    ) -> None:
        """Copy coded frames whose times have been checked."""
        raise ValueError("files of this kind cannot be joined")

    @abstractmethod
    def _write_audio(self, packet: AudioPacket) -> None:
        """Take a packet of a track that exists."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what is left and close the file."""

    @abstractmethod
    def _release(self) -> None:
        """Close what is open, after a failure."""
