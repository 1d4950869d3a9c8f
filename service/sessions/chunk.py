"""Read a chunk: a clip, or a sequence of pictures."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from service.errors import (
    ImpossibleOutput,
    MattingError,
    MediaLimitExceeded,
    UndecodableMedia,
    UnsupportedMedia,
)
from service.media.decoder.client import Decoder
from service.media.video.types import ClipSelection, Image, VideoFrame
from service.sessions.timeline import TimedImage
from service.settings import Settings

SILENT = ClipSelection(audio=())
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Chunk:
    """The open files of a chunk, each at its start, and the SHA-256 over their contents in order.

    A clip is one file.
    """

    files: tuple[BinaryIO, ...]
    is_clip: bool
    digest: bytes


def make_chunk(files: tuple[BinaryIO, ...], *, is_clip: bool) -> Chunk:
    """Read the files once for their digest; lengths count too, so that borders do."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read()
        digest.update(len(content).to_bytes(8) + content)
        file.seek(0)
    return Chunk(files, is_clip, digest.digest())


def read_chunk(
    decoder: Decoder, chunk: Chunk, settings: Settings, fps: float
) -> Iterator[TimedImage]:
    """Decode a chunk; pictures count at `fps`, and so does what a clip does not say.

    Raises the errors of the decoder, and MediaLimitExceeded.
    """
    if chunk.is_clip:
        return _read_clip(decoder, chunk.files[0], settings, fps)
    return _read_pictures(decoder, chunk.files, settings, fps)


def _read_clip(
    decoder: Decoder, file: BinaryIO, settings: Settings, fps: float
) -> Iterator[TimedImage]:
    info = decoder.open_video(
        file, SILENT, max_s=settings.video_max_s, max_frames=settings.chunk_max_frames
    )
    usual_s = 1 / (info.average_rate or make_rate(fps))
    for item in decoder.read_video(info):
        if isinstance(item, VideoFrame):
            length_s = item.duration * info.time_base if item.duration else usual_s
            yield TimedImage(item.pts * info.time_base, length_s, item.image)


def _read_pictures(
    decoder: Decoder, files: tuple[BinaryIO, ...], settings: Settings, fps: float
) -> Iterator[TimedImage]:
    if not files:
        raise UndecodableMedia(
            "the chunk has no frames",
            hint="send one clip as `file`, or pictures in order as `frame` parts",
        )
    if len(files) > settings.chunk_max_frames:
        raise MediaLimitExceeded(
            f"the chunk has {len(files)} frames, the limit is {settings.chunk_max_frames}",
            hint="send fewer frames in a chunk",
            limit=settings.chunk_max_frames,
            actual=len(files),
        )
    length_s = 1 / make_rate(fps)
    for index, file in enumerate(files):
        try:
            image = read_picture(decoder, file.read(), settings)
        except MattingError as error:
            error.detail = f"frame {index} of the chunk: {error.detail}"
            raise
        yield TimedImage(index * length_s, length_s, image)


def read_picture(decoder: Decoder, data: bytes, settings: Settings) -> Image:
    """Decode one picture, (H, W, 3) uint8 RGB over white; raises the errors of the decoder."""
    try:
        info = decoder.open_image(data)
    except UnsupportedMedia:
        info = None
    if info is None or info.format not in PICTURE_FORMATS:
        raise UndecodableMedia(
            "it is none of JPEG, PNG, WebP", hint="clips come as `file`, one in a chunk"
        )
    check_frame_size(info.height, info.width, settings)
    return decoder.decode_image().flat


def make_rate(fps: float) -> Fraction:
    """Return a rate as people write it: 29.97 is 2997/100."""
    return Fraction(str(fps))


def check_frame_size(height: int, width: int, settings: Settings) -> None:
    """Refuse frames over the limits of clips; raises MediaLimitExceeded."""
    size = f"{width} x {height} pixels"
    if max(width, height) > settings.video_max_side:
        raise MediaLimitExceeded(
            f"{size}; the longest side may have {settings.video_max_side}",
            hint="send smaller frames",
            limit=settings.video_max_side,
            actual=max(width, height),
        )
    megapixels = width * height / 1e6
    if megapixels > settings.video_max_frame_megapixels:
        raise MediaLimitExceeded(
            f"{size} are {megapixels:.1f} megapixels, the limit is "
            f"{settings.video_max_frame_megapixels:g}",
            hint="send smaller frames",
            limit=settings.video_max_frame_megapixels,
            actual=round(megapixels, 3),
        )


def check_same_size(found: tuple[int, int], expected: tuple[int, int]) -> None:
    """Refuse a frame of another (height, width) than the session's; raises ImpossibleOutput."""
    if found != expected:
        raise ImpossibleOutput(
            f"a frame is {found[1]} x {found[0]} pixels, those of the session are "
            f"{expected[1]} x {expected[0]}",
            hint="open a new session for another size",
        )
