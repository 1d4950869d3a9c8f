"""A decoder child as the service sees it, bounded in memory, CPU time and wall time."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

from service.errors import (
    DecoderCrashed,
    InvalidOption,
    MattingError,
    MediaLimitExceeded,
    MediaTooComplex,
    NotReady,
    UndecodableMedia,
    UnsupportedMedia,
)
from service.media.audio.types import MAX_AUDIO_PACKET_BYTES, AudioPacket
from service.media.decoder.forks import START_TIMEOUT_S, NoChild, fork_child
from service.media.decoder.messages import (
    read_frame,
    read_image_info,
    read_packet,
    read_picture,
    read_repairs,
    read_video_info,
)
from service.media.image.types import ImageInfo, Picture
from service.media.video.repairs import Repairs
from service.media.video.types import ClipSelection, VideoFrame, VideoInfo, VideoLimits
from service.media.wire.channel import Channel, ChannelClosed, ProtocolError
from service.media.wire.sealed import map_sealed
from service.settings import Settings

log = logging.getLogger(__name__)
_ERRORS: dict[str, type[MattingError]] = {
    "unsupported": UnsupportedMedia,
    "undecodable": UndecodableMedia,
    "too-complex": MediaTooComplex,
    "limit": MediaLimitExceeded,
    "empty-selection": InvalidOption,
}
_MAX_METADATA_BYTES = 1 << 23
ALL = ClipSelection()


class Decoder:
    """One decoder child; blocking calls, for one worker thread at a time.

    It is made when the child is up, or raises NotReady. `is_confined` says whether the system let
    the child give up its rights (see `confinement`).
    Every call raises UnsupportedMedia, UndecodableMedia, MediaTooComplex or MediaLimitExceeded
    when the input is at fault; `broken` then says whether the child must be replaced.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.broken = False
        self.items = 0  # files that it has opened
        self.repairs = Repairs()
        self._info: ImageInfo | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = fork_child(theirs)
            except NoChild as error:
                ours.close()
                raise _refuse_to_start(error) from None
        self._channel = Channel(ours)
        self.is_confined = self._wait_for_start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return not self.broken and self._channel.is_open()

    def open_image(self, data: bytes) -> ImageInfo:
        """Return what the header of an image file says."""
        self._send("image", data, memory_bytes=self._settings.decoder_memory_bytes)
        header, _ = self._receive(0)
        try:
            info = read_image_info(header)
        except ValueError as error:
            raise self._fail(ProtocolError(str(error))) from None
        if info.width < 1 or info.height < 1:
            raise UndecodableMedia("the image has no pixels")
        self._info = info
        return info

    def decode_image(self) -> Picture:
        """Return the opened image."""
        assert self._info is not None
        shape = (self._info.height, self._info.width)
        self._info = None
        # Colour twice and alpha at most; a profile and EXIF beside them.
        most = shape[0] * shape[1] * 7 + _MAX_METADATA_BYTES
        self._send("decode", memory_bytes=self._settings.decoder_memory_bytes)
        header, _, fd = self._receive_any(0)
        try:
            if fd is None:
                raise ProtocolError("no pixels came")
            picture = read_picture(header, map_sealed(fd, most))
            if picture.image.shape[:2] != shape:
                raise ValueError("another size than the header promised")
        except (ValueError, ProtocolError) as error:
            raise self._fail(ProtocolError(str(error))) from None
        return picture

    def open_video(
        self,
        file: BinaryIO,
        selection: ClipSelection = ALL,
        *,
        max_s: float,
        max_frames: int | None = None,
    ) -> VideoInfo:
        """Return the facts of a clip; `read_video` must be used up, or the child is replaced.

        `max_s` bounds the duration of what is selected, `max_frames` (default: that of the
        settings) its frames, both counted while decoding. Raises InvalidOption when the clip has
        no frame there.
        """
        settings = self._settings
        limits = VideoLimits(
            max_frames=max_frames or settings.video_max_frames,
            max_duration_s=max_s,
            max_frame_megapixels=settings.video_max_frame_megapixels,
            max_side=settings.video_max_side,
        )
        self.broken = True  # until the last frame is read
        fd = file.fileno()  # a spooled upload moves to disk here
        file.flush()
        os.lseek(fd, 0, os.SEEK_SET)
        self._send(
            "video",
            fd=fd,
            limits=asdict(limits),
            selection=asdict(selection),
            memory_bytes=settings.decoder_video_memory_bytes,
        )
        header, _ = self._receive_of_clip(0)
        try:
            return read_video_info(header)
        except ValueError as error:
            raise self._fail(ProtocolError(str(error))) from None

    def read_video(self, info: VideoInfo) -> Iterator[VideoFrame | AudioPacket]:
        """Yield the frames and audio packets of the opened clip in file order.

        After the last one `repairs` says what had to be repaired.
        """
        max_bytes = max(info.width * info.height * 4, MAX_AUDIO_PACKET_BYTES)
        while True:
            header, payload = self._receive_of_clip(max_bytes)
            try:
                if header.get("kind") == "end":
                    self.repairs = read_repairs(header)
                    self.broken = False
                    return
                item = _read_item(info, header, payload)
            except ValueError as error:
                raise self._fail(ProtocolError(str(error))) from None
            yield item

    def kill(self) -> None:
        """End the child at once; a call in progress in another thread fails."""
        self.broken = True
        self._process.kill()

    def close(self) -> None:
        """End the child and free what it held."""
        self.kill()
        self._process.wait()
        self._channel.close()

    def _wait_for_start(self) -> bool:
        """Return whether the child could give up its rights; raises NotReady."""
        try:
            header, _, _ = self._channel.receive(max_payload_bytes=0, timeout_s=START_TIMEOUT_S)
            return header["confined"] is True
        except (ChannelClosed, KeyError, ProtocolError, TimeoutError) as error:
            self.close()
            raise _refuse_to_start(error) from None

    def _send(self, op: str, data: bytes = b"", fd: int | None = None, **more: Any) -> None:
        settings = self._settings
        self.items += op != "decode"
        request = {"op": op, "cpu_s": settings.decoder_cpu_s, **more}
        try:
            self._channel.send(request, data, fd, timeout_s=settings.decoder_timeout_s)
        except (ChannelClosed, TimeoutError) as error:
            raise self._fail(error) from None

    def _receive_of_clip(self, max_payload_bytes: int) -> tuple[dict[str, Any], bytearray]:
        """Return the next message that is more than a sign of work."""
        while True:
            header, payload = self._receive(max_payload_bytes)
            if header.get("kind") != "progress":
                return header, payload

    def _receive(self, max_payload_bytes: int) -> tuple[dict[str, Any], bytearray]:
        """Return header and payload of the next message."""
        header, payload, fd = self._receive_any(max_payload_bytes)
        if fd is not None:
            os.close(fd)
            raise self._fail(ProtocolError("a file that nobody asked for"))
        return header, payload

    def _receive_any(self, max_payload_bytes: int) -> tuple[dict[str, Any], bytearray, int | None]:
        """Return the next message with the file that may come with it, for the caller to close."""
        try:
            header, payload, fd = self._channel.receive(
                max_payload_bytes=max_payload_bytes, timeout_s=self._settings.decoder_timeout_s
            )
        except (ChannelClosed, ProtocolError, TimeoutError) as error:
            raise self._fail(error) from None
        if header.get("kind") != "error":
            return header, payload, fd
        if fd is not None:
            os.close(fd)
        self.broken = False  # the child ended the item by itself
        kind = _ERRORS.get(str(header.get("error")), UndecodableMedia)
        limit, actual = _read_number(header.get("limit")), _read_number(header.get("actual"))
        raise kind(str(header.get("reason")), limit=limit, actual=actual)

    def _fail(self, error: Exception) -> MattingError:
        """Kill the child and return what its end means for the request."""
        self.broken = True
        self._process.kill()
        code = self._process.wait()
        log.warning("decoder child failed", extra={"fields": {"why": repr(error), "exit": code}})
        settings = self._settings
        if code == -signal.SIGXCPU:
            limit = settings.decoder_cpu_s
            return MediaTooComplex(f"decoding takes over {limit} s of CPU time", limit=limit)
        if isinstance(error, TimeoutError):
            timeout_s = settings.decoder_timeout_s
            return MediaTooComplex(f"decoding takes over {timeout_s:g} s", limit=timeout_s)
        self._process.suspect_template()
        return DecoderCrashed("the decoder failed on this file")


def _refuse_to_start(error: Exception) -> NotReady:
    log.error("a decoder child did not start", extra={"fields": {"why": repr(error)}})
    return NotReady("no decoder could be started", hint="try again later", retry_after_s=5)


def _read_number(value: object) -> float | None:
    """Return a number that fits an answer; NaN and infinity are JSON only to Python."""
    return value if isinstance(value, int | float) and abs(value) < 1e15 else None


def _read_item(
    info: VideoInfo, header: dict[str, Any], payload: bytearray
) -> VideoFrame | AudioPacket:
    if header.get("kind") == "audio":
        return read_packet(header, payload)
    frame = read_frame(header, payload)
    if frame.size != (info.height, info.width):
        raise ValueError("a frame of another size")
    return frame
