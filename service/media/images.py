"""Still images: header and pixels of an upload (in a decoder child), encoding of a result."""

import io
import zlib
from dataclasses import dataclass
from struct import error as struct_error
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
ImageFormat = Literal["png", "webp", "jpeg"]
CONTENT_TYPES: dict[ImageFormat, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
}
MAX_WEBP_SIDE = 16_383  # of the format itself
MAX_JPEG_SIDE = 65_500  # of libjpeg

_EXIF_ORIENTATION = 0x0112
_SWAPPING_ORIENTATIONS = (5, 6, 7, 8)
_MAGIC = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (8, b"WEBP"),
    (4, b"ftypavif"),
    (4, b"ftypavis"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (0, b"BM"),
    (0, b"GIF8"),
)
# What Pillow raises on broken files; anything else ends the child, which is answered alike.
DECODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    SyntaxError,
    TypeError,
    UnicodeError,
    ValueError,
    Image.DecompressionBombError,
    struct_error,
    zlib.error,
)


class UnknownFormat(Exception):
    """The bytes are of no image format that the service reads."""


class UndecodableImage(Exception):
    """The bytes begin as an image and cannot be decoded; the text is for the user."""


@dataclass(frozen=True)
class ImageInfo:
    """What the header says: size in pixels after EXIF orientation, and the format."""

    width: int
    height: int
    format: str

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


def open_image(data: bytes | bytearray) -> tuple[Image.Image, ImageInfo]:
    """Read the header only; raises UnknownFormat or UndecodableImage."""
    if not any(data[at : at + len(magic)] == magic for at, magic in _MAGIC):
        if not data:
            raise UndecodableImage("the file is empty")
        raise UnknownFormat(f"the file is none of {', '.join(FORMATS)}")
    # The pixel limit is the caller's, who knows the setting; memory is bounded by RLIMIT_AS.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        # Pillow looks for the EXIF of a PNG behind the pixels and decodes them all on the way.
        if image.format != "PNG" or "exif" in image.info:
            if image.getexif().get(_EXIF_ORIENTATION) in _SWAPPING_ORIENTATIONS:
                width, height = height, width
    except DECODE_ERRORS:
        raise UndecodableImage("the header of the image is broken") from None
    return image, ImageInfo(width, height, str(image.format))


def decode_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the picture as (H, W, 3) uint8 RGB, upright, first frame only.

    Transparent pixels are laid over white: their own colour is arbitrary and was never meant to be
    seen. 16-bit grey is scaled to 8 bits, not clipped. Raises UndecodableImage.
    """
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I;16", "I")):
            grey = np.asarray(image).astype(np.float32) / 257.0
            image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.new("RGB", layer.size, "white")
            image.paste(layer, mask=layer.getchannel("A"))
        return np.asarray(image.convert("RGB"))
    except DECODE_ERRORS:
        raise UndecodableImage("the image data is broken or cut short") from None


def encode_image(
    pixels: NDArray[np.uint8], format: ImageFormat, *, quality: int, compression: int
) -> bytes:
    """Encode (H, W) grey, (H, W, 3) RGB or (H, W, 4) straight RGBA.

    `quality` (1-100) is for JPEG and WebP, `compression` (0-9) for PNG.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if format == "png":
        # At level 1 runs alone beat the search for repeats: on a photo's matte a fifth smaller and
        # a tenth faster, on a cutout a sixth smaller.
        kind = zlib.Z_RLE if compression == 1 else zlib.Z_DEFAULT_STRATEGY
        image.save(buffer, "PNG", compress_level=compression, compress_type=kind)
    elif format == "jpeg":
        image.save(buffer, "JPEG", quality=quality)
    else:
        # `exact` keeps the colour of transparent pixels, as PNG does.
        image.save(buffer, "WEBP", quality=quality, method=2, exact=True)
    return buffer.getvalue()
