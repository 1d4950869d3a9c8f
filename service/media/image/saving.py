"""Write pictures with Pillow, and load nothing else: a child that encodes starts with it."""

import zlib
from typing import Any, BinaryIO, Literal

from PIL import AvifImagePlugin, Image

PixelFormat = Literal["png", "webp", "jpeg", "avif"]

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


def save_picture(
    image: Image.Image,
    target: BinaryIO,
    format: PixelFormat,
    *,
    quality: int,
    compression: int,
    icc: bytes = b"",
    exif: bytes = b"",
) -> None:
    """Write L, RGB or RGBA to an open file; the options are those of `encode_image`."""
    more: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if exif:
        more["exif"] = _ReadyExif(exif)
    if format == "png":
        # At level 1 runs alone beat the search for repeats: on a cutout a sixth smaller.
        kind = zlib.Z_RLE if compression == 1 else zlib.Z_DEFAULT_STRATEGY
        image.save(target, "PNG", compress_level=compression, compress_type=kind, **more)
    elif format == "jpeg":
        subsampling = "4:4:4" if quality >= _FULL_CHROMA_QUALITY else "4:2:0"
        image.save(target, "JPEG", quality=quality, subsampling=subsampling, **more)
    elif format == "webp" and quality == 100:
        # Here quality is effort: the least is faster than lossy, the most saves a sixth in seconds.
        image.save(target, "WEBP", lossless=True, quality=0, method=0, exact=True, **more)
    elif format == "webp":
        # `exact` keeps the colour of transparent pixels, as PNG does.
        image.save(target, "WEBP", quality=quality, method=2, exact=True, **more)
    else:
        if image.mode == "RGBA":
            more["advanced"] = _AVIF_EXACT_ALPHA
        image.save(target, "AVIF", quality=quality, speed=_AVIF_SPEED, **more)
