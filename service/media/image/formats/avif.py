"""AVIF by FFmpeg: ten bits where colours need them, files that strict readers refuse."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.media.colour.description import UNSPECIFIED, Colour
from service.media.image.formats.boxes import find_nclx, find_orientation


@dataclass(frozen=True)
class AvifPixels:
    """An AVIF that FFmpeg opens: its coded size, colour and EXIF orientation."""

    data: bytes | bytearray
    size: tuple[int, int]
    colour: Colour
    orientation: int


def open_avif(data: bytes | bytearray) -> AvifPixels | None:
    """Return the header; None where FFmpeg finds no single AV1 picture in the file."""
    av = import_av()
    try:
        with av.open(io.BytesIO(data), "r") as container:
            streams = container.streams.video
            if not streams or streams[0].codec_context.name not in ("libdav1d", "av1"):
                return None
            context = streams[0].codec_context
            size = (int(context.width), int(context.height))
            if min(size) < 1 or len(streams) > 2:  # more: tiles of a grid
                return None
            codes = (int(context.color_primaries), int(context.color_trc))
    except (av.FFmpegError, ValueError):
        return None
    colour = find_nclx(data) or Colour.from_codes(*codes, UNSPECIFIED)
    return AvifPixels(data, size, colour, find_orientation(data))


def decode_avif(avif: AvifPixels) -> NDArray[np.uint16]:
    """Return (H, W, 3) codes, or (H, W, 4) with alpha, up to 65,535; raises ValueError."""
    from service.media.colour.planes import DEEP_RGB, SCALING  # late, as it brings FFmpeg along

    frame = _decode_stream(avif.data, 0)
    if frame is None:
        raise ValueError("no picture in the file")
    alpha = _decode_stream(avif.data, 1)
    pixels: NDArray[np.uint16] = frame.reformat(format=DEEP_RGB, interpolation=SCALING).to_ndarray()
    if alpha is None or (alpha.width, alpha.height) != (frame.width, frame.height):
        return pixels
    return np.dstack([pixels, alpha.to_ndarray(format="gray16le")])


def _decode_stream(data: bytes | bytearray, number: int) -> Any:
    """Return the first frame of a stream, None where there is no such stream."""
    av = import_av()
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if number >= len(container.streams.video):
                return None
            return next(iter(container.decode(container.streams.video[number])))
    except (av.FFmpegError, StopIteration) as error:
        raise ValueError(f"FFmpeg cannot decode it: {error}") from None


def import_av() -> Any:
    """Return PyAV, silent."""
    # Late: other stills need neither the time nor the address space of FFmpeg.
    import av

    av.logging.set_level(None)
    return av
