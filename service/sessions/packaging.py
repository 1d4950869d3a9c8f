"""Package the answers of a session: multipart pictures or MP4 fragments."""

import secrets
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import MediaLimitExceeded
from service.media.image.saving import PixelFormat
from service.media.image.writer import CONTENT_TYPES, encode_image
from service.media.video.types import VideoFrame
from service.media.video.writing.fragment_writer import TICKS_PER_S, FragmentWriter

MP4_TYPE = "video/mp4"
PICTURE_QUALITY = 90  # of WebP; its alpha is exact
PICTURE_COMPRESSION = 1  # of PNG

Pixels = NDArray[np.uint8]


class Packager(Protocol):
    """Takes the frames of one answer, in order, and writes them to a file."""

    @property
    def content_type(self) -> str: ...

    def add(self, frame: VideoFrame, pixels: Pixels) -> None:
        """Take one frame of the session and its result."""

    def close(self, following: VideoFrame | None) -> None:
        """End the answer; `following` is the frame that the next one begins with, if known."""


class PicturePackager:
    """multipart/mixed (RFC 2046), one part a frame, with its number and its time in seconds.

    `first` is the number of the first frame.
    """

    def __init__(self, file: BinaryIO, format: PixelFormat, first: int, max_bytes: int) -> None:
        self._file = file
        self._format = format
        self._next = first
        self._max_bytes = max_bytes
        self._boundary = secrets.token_hex(16)

    @property
    def content_type(self) -> str:
        return f"multipart/mixed; boundary={self._boundary}"

    def add(self, frame: VideoFrame, pixels: Pixels) -> None:
        content = encode_image(
            pixels, self._format, quality=PICTURE_QUALITY, compression=PICTURE_COMPRESSION
        )
        check_answer_size(self._file.tell() + len(content), self._max_bytes)
        head = (
            f"--{self._boundary}\r\n"
            f"Content-Type: {CONTENT_TYPES[self._format]}\r\n"
            f"Content-Length: {len(content)}\r\n"
            f"X-Frame: {self._next}\r\n"
            f"X-Timestamp: {frame.pts / TICKS_PER_S:.6f}\r\n\r\n"
        )
        self._file.write(head.encode() + content + b"\r\n")
        self._next += 1

    def close(self, following: VideoFrame | None) -> None:
        self._file.write(f"--{self._boundary}--\r\n".encode())


class EmptyPackager:
    """No bytes of an MP4: not even its beginning can be written before a frame has come."""

    content_type = MP4_TYPE

    def add(self, frame: VideoFrame, pixels: Pixels) -> None:
        raise AssertionError("a frame has a size, and another packager")

    def close(self, following: VideoFrame | None) -> None:
        pass


class FragmentPackager:
    """One fragment of an MP4, or nothing; `number` counts fragments from 1 on.

    `has_init`: the file's beginning went out before.
    """

    content_type = MP4_TYPE

    def __init__(
        self,
        file: BinaryIO,
        encoder: FragmentWriter,
        number: int,
        *,
        has_init: bool,
        max_bytes: int,
    ) -> None:
        self._file = file
        self._encoder = encoder
        self._number = number
        self._has_init = has_init
        self._max_bytes = max_bytes
        self._packets: list[Any] = []
        self._bytes = 0
        self._end = 0

    def add(self, frame: VideoFrame, pixels: Pixels) -> None:
        packet = self._encoder.encode(pixels, frame.pts)
        self._bytes += packet.size
        check_answer_size(self._bytes, self._max_bytes)
        self._packets.append(packet)
        self._end = frame.pts + (frame.duration or 1)

    def close(self, following: VideoFrame | None) -> None:
        if not self._has_init:
            self._file.write(self._encoder.init)
        if self._packets:
            end = self._end if following is None else following.pts
            self._file.write(self._encoder.mux(self._packets, self._number, end))


def check_answer_size(size_bytes: int, max_bytes: int) -> None:
    """Refuse an answer that becomes too large; raises MediaLimitExceeded."""
    if size_bytes > max_bytes:
        raise MediaLimitExceeded(
            f"the answer has {size_bytes} bytes or more, the limit is {max_bytes}",
            hint="send fewer frames in a chunk",
            limit=max_bytes,
            actual=size_bytes,
        )
