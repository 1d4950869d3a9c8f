"""Damage that keeps the structure of a file: lengths, counts and tags rather than any byte."""

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pillow_heif
from PIL import Image

from tests.clips import make_clip
from tests.helpers import encode

IMAGES = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def make_images() -> dict[str, bytes]:
    pillow_heif.register_heif_opener()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    return {name: encode(pixels, name) for name in IMAGES}


def make_clips(folder: Path) -> dict[str, bytes]:
    """Return a small clip in every accepted container."""
    source = make_clip(folder / "clip.mp4", seconds=0.5, fps=8, size=(64, 48))
    found = {"mp4": source.read_bytes()}
    for suffix, name in (("mov", "mov"), ("mkv", "matroska"), ("ts", "mpegts")):
        buffer = io.BytesIO()
        with av.open(str(source)) as clip, av.open(buffer, "w", format=name) as copy:
            streams = {s.index: copy.add_stream_from_template(s) for s in clip.streams}
            for packet in clip.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    copy.mux(packet)
        found[suffix] = buffer.getvalue()
    frames = [np.full((24, 32, 3), level, np.uint8) for level in (0, 128, 255)]
    first, *rest = [Image.fromarray(frame) for frame in frames]
    found["gif"] = encode(first, "GIF", save_all=True, append_images=rest, duration=100)
    return found


def damage(data: bytes, chance: random.Random) -> bytes:
    """Return a file with one to four damages."""
    for _ in range(chance.randint(1, 4)):
        data = chance.choice(DAMAGES)(bytearray(data), chance)
    return bytes(data)


def set_number(data: bytearray, chance: random.Random) -> bytearray:
    """Write a number that decoders count with, in either byte order."""
    width, kind = chance.choice(((1, "B"), (2, "H"), (4, "I")))
    if len(data) < width:
        return data
    where = chance.randrange(min(len(data), 2000) - width + 1)
    value = chance.choice(NUMBERS) & (1 << 8 * width) - 1
    struct.pack_into(chance.choice("<>") + kind, data, where, value)
    return data


def flip_bits(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.randint(1, 16)):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data) + 1)]


def repeat(data: bytearray, chance: random.Random) -> bytearray:
    start, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    return data[:end] + data[start:end] * chance.randint(1, 3) + data[end:]


def remove(data: bytearray, chance: random.Random) -> bytearray:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.randint(1, 64)]
    return data


def swap(data: bytearray, chance: random.Random) -> bytearray:
    middle = chance.randrange(len(data) + 1)
    return data[middle:] + data[:middle] if chance.random() < 0.1 else data


DAMAGES: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    set_number, set_number, set_number, flip_bits, cut, repeat, remove, swap,
)  # fmt: skip
