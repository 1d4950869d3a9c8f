"""PNG and TIFF files of the depths and kinds that Pillow reads and cannot write."""

import struct
import zlib

import numpy as np

from tests.hostile import make_png

PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # the colour type of 1 to 4 samples a pixel
SHORT, LONG = 3, 4


def make_deep_png(samples: np.ndarray, before: bytes = b"") -> bytes:
    """Return a PNG of (H, W, 1 to 4) uint16 samples."""
    height, width, count = samples.shape
    rows = [b"\0" + row.astype(">u2").tobytes() for row in samples]
    idat = zlib.compress(b"".join(rows))
    colour = PNG_COLOURS[count]
    return make_png(width, height, depth=16, colour=colour, idat=idat, before=before)


def make_shallow_png(levels: np.ndarray, depth: int, before: bytes = b"") -> bytes:
    """Return a grey PNG of (H, W) levels of 1, 2 or 4 bits."""
    height, width = levels.shape
    bits = np.unpackbits(levels.astype(np.uint8)[:, :, np.newaxis], axis=2)[:, :, -depth:]
    rows = np.packbits(bits.reshape(height, -1), axis=1)
    idat = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return make_png(width, height, depth=depth, idat=idat, before=before)


def make_tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    extra: tuple[int, ...] = (),
    orientation: int = 1,
    more: tuple[tuple[int, int, tuple[int, ...]], ...] = (),
) -> bytes:
    """Return an uncompressed TIFF of (H, W, C) samples; their type is that of the array.

    `extra` is ExtraSamples (1: premultiplied alpha, 2: straight), `more` other tags as
    (number, SHORT or LONG, values).
    """
    height, width, count = samples.shape
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    bits = samples.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    tags = {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (bits,) * count),
        259: (SHORT, (1,)),
        262: (SHORT, (photometric,)),
        273: (LONG, (8,)),
        274: (SHORT, (orientation,)),
        277: (SHORT, (count,)),
        278: (LONG, (height,)),
        279: (LONG, (len(pixels),)),
        339: (SHORT, (kind,) * count),
    }
    if extra:
        tags[338] = (SHORT, extra)
    tags |= {number: (type, values) for number, type, values in more}
    pixels += bytes(len(pixels) % 2)
    start = 8 + len(pixels) + 2 + 12 * len(tags) + 4
    entries, tail = b"", b""
    for number in sorted(tags):
        type, values = tags[number]
        data = struct.pack(f"{order}{len(values)}{'H' if type == SHORT else 'I'}", *values)
        if len(data) > 4:
            place = struct.pack(order + "I", start + len(tail))
            tail += data + bytes(len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", number, type, len(values)) + place
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(pixels))
    return head + pixels + struct.pack(order + "H", len(tags)) + entries + bytes(4) + tail
