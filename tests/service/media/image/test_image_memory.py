"""The largest pictures allowed fit the address space of a decoder child, in every format."""

import io
import struct
import zlib

import httpx
import numpy as np
import pillow_heif
import psutil
import pytest
from PIL import Image

from service.errors import MediaTooComplex
from service.media.decoder.client import Decoder
from service.settings import Settings
from tests.helpers import encode
from tests.hostile import chunk, make_png
from tests.memory import count_bytes
from tests.profiles import make_profile
from tests.raw_images import make_tiff
from tests.stills import LOSSLESS, store

WIDTH, HEIGHT = 7_000, 7_000  # 49 megapixels of the 50 allowed
ROWS, SHAPE = np.arange(HEIGHT) % 256, (HEIGHT, WIDTH, 3)
MOST_KEPT_BYTES = 100 << 20
ROOM = 0.95  # some of the limit is left to machines with more threads and larger libraries


def make_large(mode: str) -> Image.Image:
    """Return stripes, which every encoder writes in no time."""
    rows = np.arange(HEIGHT, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    count = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = np.broadcast_to(rows, (HEIGHT, WIDTH, count)).copy()
    return Image.fromarray(pixels[:, :, 0] if count == 1 else pixels)


CASES = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True, "quality": 30}),
    ("PNG", "RGBA", {"compress_level": 1}),
    ("WEBP", "RGBA", {"lossless": True, "quality": 0, "method": 0}),
    ("WEBP", "RGBA", {"quality": 80, "method": 0, "exact": True}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("HEIF", "RGB", {"quality": 10}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    ("BMP", "RGB", {}),
    ("GIF", "L", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "format, mode, options", CASES, ids=[f"{case[0]}-{len(case[2])}" for case in CASES]
)
def test_largest_picture_is_decoded_within_the_limit(format, mode, options):
    image = make_large(mode)
    if format in LOSSLESS:  # turned and wide: the most that is asked of the child
        data = store(image, 6, format, icc_profile=make_profile("P3"), **options)
    else:
        data = encode(image, format, **options)
    settings = Settings(
        decoder_memory_bytes=int(Settings().decoder_memory_bytes * ROOM),
        decoder_timeout_s=600,  # memory is the subject, on machines that are busy, too
    )
    child = Decoder(settings)
    try:
        info = child.open_image(data)
        assert (info.width, info.height) == (WIDTH, HEIGHT)
        picture = child.decode_image()
        assert picture.image.shape == (HEIGHT, WIDTH, 3)
        assert (picture.own is not None) == (format in LOSSLESS)
        assert psutil.Process(child.pid).num_threads() <= 3
    finally:
        child.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_largest_webp_that_ends_early_is_read_as_small_ones_are(portrait, mode):
    image = Image.fromarray(np.tile(portrait, (14, 14, 1))[:HEIGHT, :WIDTH]).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.new("L", image.size, 200))
    data = encode(image, "WEBP", quality=60, method=0)
    child = Decoder(Settings(decoder_timeout_s=600))
    try:
        child.open_image(data[: len(data) * 4 // 5])
        picture = child.decode_image()
        assert picture.image.shape == SHAPE and 0.5 < picture.rows_there < 0.9
    finally:
        child.close()


def test_memory_after_thin_pictures_is_that_after_others(live_server, portrait):
    """A long side at the network's largest size would cost 20 times the pixels of a portrait."""
    server = live_server()
    usual = encode(portrait, "JPEG")
    thin = [encode(Image.new("RGB", size), "PNG") for size in [(1, 50), (2, 3000), (3000, 2)]]
    with httpx.Client(base_url=server.url, timeout=120) as client:

        def count_after(*contents: bytes) -> int:
            for content in contents:
                answer = client.post("/v1/image", files={"file": content})
                assert answer.status_code == 200, answer.text
            return count_bytes(server)

        base = count_after(usual, usual)
        after = count_after(*thin, *thin)
    print(f"MiB after two portraits and six thin pictures: {base >> 20}, {after >> 20}")
    assert after - base < MOST_KEPT_BYTES


def make_deep(format: str) -> bytes:
    """Return a picture of stripes with more than eight bits a sample."""
    if format == "HEIF":
        image = np.broadcast_to(
            np.uint16(257) * ROWS.astype(np.uint16)[:, np.newaxis, np.newaxis], SHAPE
        )
        buffer = io.BytesIO()
        heif = pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), image.tobytes())
        heif.save(buffer, quality=10, color_primaries=9, transfer_characteristics=16)
        return buffer.getvalue()
    count, kind = (4, ">u2") if format == "PNG" else (3, "<u2")
    rows = (np.full(WIDTH * count, 257 * row, kind).tobytes() for row in ROWS.tolist())
    if format == "TIFF":
        samples = np.frombuffer(b"".join(rows), kind).reshape(SHAPE)
        return make_tiff(samples, 2)
    packer = zlib.compressobj(1)
    idat = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    gamma = chunk(b"gAMA", struct.pack("!I", 100_000))
    return make_png(WIDTH, HEIGHT, depth=16, colour=6, idat=idat, before=gamma)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # encoders take their time
@pytest.mark.parametrize("format", ["HEIF", "PNG", "TIFF"])
def test_largest_deep_picture_is_decoded_or_refused_by_name(format):
    child = Decoder(Settings(decoder_timeout_s=600, decoder_cpu_s=600))
    try:
        child.open_image(make_deep(format))
        assert child.decode_image().image.shape == SHAPE
    except MediaTooComplex as error:
        assert "memory" in str(error)
        assert not child.broken
    finally:
        child.close()
