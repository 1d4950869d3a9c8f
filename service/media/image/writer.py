"""Encode still images."""

import io
import zlib
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

from service.threads import IsLate, check_time, never

PixelFormat = Literal["png", "webp", "jpeg", "avif"]
CONTENT_TYPES: dict[PixelFormat, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
    "avif": "image/avif",
}
# Pixels a side that a format holds. AVIF holds more, and readers built on libavif refuse it.
MAX_SIDE: dict[PixelFormat, int] = {"webp": 16_383, "jpeg": 65_500, "avif": 32_768}

# Full colour resolution from here on, as ImageMagick has it: half of it bleeds a background into
# hair, which costs less bytes to avoid (a fifth) than a higher quality would.
_FULL_CHROMA_QUALITY = 90
# 9 takes a third of the CPU time of 8 (0.2 s for 2 MP) for 3 % more bytes and the same error.
_AVIF_SPEED = 9
# A cutout's alpha is exact, as in WebP: 3 % more bytes, against errors of 30 levels at edges.
_AVIF_EXACT_ALPHA = {"alpha:lossless": "1"} if AvifImagePlugin.get_codec_version("aom") else {}


class _ReadyExif(Image.Exif):
    """EXIF to be written as it is: the writer of AVIF would parse bytes, a decoder child's task."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._ready = data

    def __bool__(self) -> bool:
        return True

    def tobytes(self, offset: int = 8) -> bytes:
        return self._ready


class _Sink(io.BytesIO):
    """Takes what an encoder writes for as long as somebody waits for it."""

    def __init__(self, is_late: IsLate) -> None:
        super().__init__()
        self._is_late = is_late

    def write(self, data: Any) -> int:
        check_time(self._is_late)
        return super().write(data)


def encode_image(
    pixels: NDArray[np.uint8],
    format: PixelFormat,
    *,
    quality: int,
    compression: int,
    icc: bytes = b"",
    exif: bytes = b"",
    is_late: IsLate = never,
) -> bytes:
    """Encode (H, W) grey, (H, W, 3) RGB or (H, W, 4) straight RGBA (not for JPEG).

    `quality` (1-100) is for JPEG, WebP and AVIF, `compression` (0-9) for PNG. Alpha of RGBA is
    always exact. At quality 100 WebP is lossless and grey AVIF exact, so a matte is too; WebP has
    no grey and stores equal red, green and blue. `icc` is the profile of the values, `exif` what
    else the file shall say, at most 64 KiB. Raises TooLate while a PNG is written, the one format
    whose encoder can be told to stop.
    """
    if format == "png" and pixels.ndim == 2 and not exif:
        return _encode_grey_png(pixels, compression)
    buffer = _Sink(is_late)
    image = Image.fromarray(pixels)
    more: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if exif:
        more["exif"] = _ReadyExif(exif)
    if format == "png":
        # At level 1 runs alone beat the search for repeats: on a cutout a sixth smaller.
        kind = zlib.Z_RLE if compression == 1 else zlib.Z_DEFAULT_STRATEGY
        image.save(buffer, "PNG", compress_level=compression, compress_type=kind, **more)
    elif format == "jpeg":
        subsampling = "4:4:4" if quality >= _FULL_CHROMA_QUALITY else "4:2:0"
        image.save(buffer, "JPEG", quality=quality, subsampling=subsampling, **more)
    elif format == "webp" and quality == 100:
        # Here quality is effort: the least is faster than lossy, the most saves a sixth in seconds.
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True, **more)
    elif format == "webp":
        # `exact` keeps the colour of transparent pixels, as PNG does.
        image.save(buffer, "WEBP", quality=quality, method=2, exact=True, **more)
    else:
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            more["advanced"] = _AVIF_EXACT_ALPHA
        image.save(buffer, "AVIF", quality=quality, speed=_AVIF_SPEED, **more)
    return buffer.getvalue()


def _encode_grey_png(pixels: NDArray[np.uint8], compression: int) -> bytes:
    """Encode a matte. Pillow tries all filters on each row; for mattes one is nearly as good.

    At level 1: 6 ms instead of 16 for 2 MP, for a twentieth more bytes.
    """
    fast = compression == 1
    kind = cv2.IMWRITE_PNG_STRATEGY_RLE if fast else cv2.IMWRITE_PNG_STRATEGY_DEFAULT
    filters = cv2.IMWRITE_PNG_FILTER_UP if fast else cv2.IMWRITE_PNG_ALL_FILTERS
    settings = {
        cv2.IMWRITE_PNG_COMPRESSION: compression,
        cv2.IMWRITE_PNG_STRATEGY: kind,
        cv2.IMWRITE_PNG_FILTER: filters,
    }
    _, data = cv2.imencode(".png", pixels, [number for pair in settings.items() for number in pair])
    return data.tobytes()
