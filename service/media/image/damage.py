"""Damage inside pixels that decoders pass over in silence. For the decoder child alone.

A file is decoded once more, as cheaply or as strictly as its decoder can, and what that says of the
pixels is told. Damage that leaves the coded length as it was cannot be found.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.media.image.formats.vp8 import find_part_ends
from service.media.image.formats.webp import walk_chunks
from service.media.image.samples import cut_strips

DAMAGED = "damaged inside its pixels: from some place on they may be wrong"
_STDERR, _MOST = 2, 4096
_SPOILED = bytes(np.random.default_rng(0).integers(0, 256, 48, np.uint8))
_MOVES = 2  # a flag of VP8X
_FLAW = re.compile(r"Corrupt JPEG data: |Premature end of JPEG|Inconsistent progression")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_NO_MORE_DATA = "premature end"


def find_jpeg_flaw(data: bytes | bytearray) -> str | None:
    """Return the first thing that libjpeg has to say of the pixels of a mended JPEG.

    None for a sound one, `premature end` in it where they end early. Pillow does not pass it on;
    OpenCV's copy of the library writes it to the standard error. An eighth of the size is decoded,
    which takes a quarter of the time. Bytes that fill up the end are none.
    """
    return _decode_jpeg(data, cv2.IMREAD_REDUCED_GRAYSCALE_8)[1]


def decode_jpeg(data: bytes | bytearray) -> tuple[NDArray[np.uint8] | None, str | None]:
    """Return the pixels of a JPEG, (H, W, 3) RGB, not turned, and what `find_jpeg_flaw` does.

    Both libraries decode by libjpeg-turbo and to the same values. None where OpenCV cannot.
    """
    return _decode_jpeg(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def _decode_jpeg(
    data: bytes | bytearray, flags: int
) -> tuple[NDArray[np.uint8] | None, str | None]:
    with _hear_stderr() as heard:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return pixels, _find_flaw("".join(heard), data)


def _find_flaw(heard: str, data: bytes | bytearray) -> str | None:
    line = next((line for line in heard.splitlines() if _FLAW.match(line)), None)
    if line is None:
        return None
    extraneous = _EXTRANEOUS.search(line)
    if extraneous and not bytes(data[-2 - int(extraneous[1]) : -2]).strip(b"\0\xff"):
        return None
    return line


def ends_too_soon(flaw: str | None) -> bool:
    """Say whether a flaw is that there is less data than pixels."""
    return flaw is not None and _NO_MORE_DATA in flaw.lower()


@contextlib.contextmanager
def _hear_stderr() -> Iterator[list[str]]:
    """Take what is written to the standard error within, as the first item of a list, at the end.

    With the calls that a confined child is allowed: the lowest free number is given out first.
    """
    heard: list[str] = []
    file, kept = os.memfd_create("stderr"), fcntl.fcntl(_STDERR, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(_STDERR)
    fcntl.fcntl(file, fcntl.F_DUPFD, _STDERR)
    try:
        yield heard
    finally:
        os.close(_STDERR)
        fcntl.fcntl(kept, fcntl.F_DUPFD, _STDERR)
        os.close(kept)
        heard.append(os.pread(file, _MOST, 0).decode("latin-1"))
        os.close(file)


def _spoil_ends(data: bytes | bytearray) -> Iterator[bytes]:
    """Yield a WebP with noise for the last pixels of one of its parts after another.

    A decoder that has lost its way reads past the end or, as a rule, does not come near it; then
    this changes nothing in the picture. Without loss, and with pictures that move, none is yielded.
    """
    if data[12:16] == b"VP8X" and data[20] & _MOVES:
        return
    for kind, start, end in walk_chunks(data):
        if kind != b"VP8 ":
            continue
        before = start
        for part_end in (start + place for place in find_part_ends(bytes(data[start:end]))):
            begin = max(start, part_end - len(_SPOILED))
            # What is so short may be of blocks without pixels of their own.
            if begin >= before or part_end == end:
                noise = _SPOILED[: part_end - begin]
                yield bytes(data[:begin]) + noise + bytes(data[part_end:])
            before = part_end
        return


def has_webp_flaw(data: bytes | bytearray, image: Image.Image) -> bool:
    """Say whether a lossy WebP that decodes to `image` is damaged inside its pixels."""
    return any(_decodes_to(spoiled, image) for spoiled in _spoil_ends(data))


def _decodes_to(data: bytes, image: Image.Image) -> bool:
    """Say whether a WebP decodes to the colours of `image`.

    OpenCV decodes it: it has the same library, and takes less memory than Pillow.
    """
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if other is None or other.shape[:2] != image.size[::-1]:
        return False
    return all(
        np.array_equal(other[rows], np.asarray(strip.convert("RGB")))
        for rows, strip in cut_strips(image)
    )
