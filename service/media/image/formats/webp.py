"""WebP that ends early: libwebp refuses it, FFmpeg decodes what is there of a lossy one."""

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.media.image.formats.avif import import_av
from service.media.image.truncated import Missing, find_changed_rows
from service.media.image.types import TooComplexImage

MAX_CHUNKS = 4096  # a still has five; more are animations, of which the first frame is read
_NOISE = (b"", b"\x55\xa3\x1c\x96\x5a" * 400)


def count_stated(data: bytes | bytearray) -> int:
    """Return how many bytes the file has by its header."""
    return 8 + int.from_bytes(data[4:8], "little")


def is_cut(data: bytes | bytearray) -> bool:
    """Say whether the file is shorter than its header says."""
    return len(data) < count_stated(data)


def walk_chunks(data: bytes | bytearray) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each chunk, the last one cut off at the end.

    What lies behind the length that the header states is no part of the file, as for libwebp.
    Raises TooComplexImage.
    """
    at, end = 12, min(len(data), count_stated(data))
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield bytes(data[at : at + 4]), at + 8, min(at + 8 + size, len(data))
        at += 8 + size + size % 2
    raise TooComplexImage("WebP", "chunks", MAX_CHUNKS, MAX_CHUNKS + 1)


def find_frame(data: bytes | bytearray) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of an animation's first frame, None for a still."""
    for kind, start, end in walk_chunks(data):
        if kind == b"ANMF" and end - start >= 12:
            places = range(start, start + 12, 3)
            x, y, width, height = (int.from_bytes(data[at : at + 3], "little") for at in places)
            return x * 2, y * 2, x * 2 + width + 1, y * 2 + height + 1
    return None


def lacks_pixels(data: bytes | bytearray) -> bool:
    """Say whether the file ends within the pixels of a picture."""
    return any(
        kind == b"VP8 " and end - start < int.from_bytes(data[start - 4 : start], "little")
        for kind, start, end in walk_chunks(data)
    )


def close_webp(data: bytes | bytearray, tail: bytes = b"") -> bytes:
    """Return the file with the sizes of what is there; `tail` goes behind the last pixels.

    Raises TooComplexImage.
    """
    chunks = list[bytes]()
    for kind, start, end in walk_chunks(data):
        content = bytes(data[start:end])
        if end - start < int.from_bytes(data[start - 4 : start], "little"):
            content += tail
        chunks.append(kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def decode_cut(data: bytes | bytearray) -> tuple[Image.Image, Missing]:
    """Return what FFmpeg makes of a file that ends early, and the rows (H,) that it made up.

    Raises ValueError where it makes nothing of it, a lossless one.
    """
    first, second = (Image.fromarray(_decode(close_webp(data, tail))) for tail in _NOISE)
    return first, find_changed_rows(first, second)


def _decode(data: bytes) -> NDArray[np.uint8]:
    av = import_av()
    try:
        with av.open(io.BytesIO(data), "r", format="webp_pipe") as container:
            frame: Any = next(iter(container.decode(video=0)))
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(f"FFmpeg cannot decode it: {error}") from None
    has_alpha = "a" in frame.format.name
    return np.asarray(frame.to_ndarray(format="rgba" if has_alpha else "rgb24"))
