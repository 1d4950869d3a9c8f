"""Still images as they come in: header and pixels of an upload, read in a decoder child."""

import io
import math
import zlib
from dataclasses import dataclass
from struct import error as struct_error
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")

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


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded still, upright.

    `image` is (H, W, 3) uint8 in sRGB, straight colours: not laid over anything. `alpha` is the
    file's own, (H, W) uint8, None where it is opaque everywhere; colours under alpha 0 are white.
    `own` is the same picture in the values of `icc`, an RGB profile that is not sRGB, else None.
    `exif` is the file's, its orientation set to upright; empty if there is none.
    """

    image: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    own: NDArray[np.uint8] | None = None
    icc: bytes = b""
    exif: bytes = b""

    def flatten(self) -> NDArray[np.uint8]:
        """Return the picture over white, (H, W, 3) uint8: what a viewer without alpha shows."""
        if self.alpha is None:
            return self.image
        weight = np.float32(self.alpha) / 255
        return cv2.blendLinear(self.image, np.full_like(self.image, 255), weight, 1 - weight)

    def to_wire(self) -> tuple[dict[str, Any], bytes | memoryview]:
        """Return the header and payload of a message that carries the picture."""
        height, width = self.image.shape[:2]
        header = {
            "width": width,
            "height": height,
            "alpha": self.alpha is not None,
            "own": self.own is not None,
            "icc": len(self.icc),
            "exif": len(self.exif),
        }
        layers = [layer for layer in (self.image, self.alpha, self.own) if layer is not None]
        flat = [np.ascontiguousarray(layer).reshape(-1).data for layer in layers]
        if len(flat) == 1 and not self.icc and not self.exif:
            return header, flat[0]  # the usual case, without a copy
        return header, b"".join([*flat, self.icc, self.exif])

    @classmethod
    def from_wire(cls, header: dict[str, Any], payload: bytearray) -> "Picture":
        """Return what `to_wire` was given; raises KeyError, TypeError or ValueError."""
        height, width = int(header["height"]), int(header["width"])
        position = 0

        def take(*shape: int) -> NDArray[np.uint8]:
            nonlocal position
            start, position = position, position + math.prod(shape)
            return np.frombuffer(payload, np.uint8, position - start, start).reshape(shape)

        if min(height, width) < 1:
            raise ValueError("a picture without pixels")
        image = take(height, width, 3)
        alpha = take(height, width) if header["alpha"] else None
        own = take(height, width, 3) if header["own"] else None
        icc, exif = (take(int(header[name])).tobytes() for name in ("icc", "exif"))
        if position != len(payload):
            raise ValueError("more bytes than the header promised")
        return cls(image, alpha, own, icc, exif)


def decode_pixels(image: Image.Image) -> Picture:
    """Decode the opened picture, first frame only; 16 bits are scaled to 8, not clipped.

    Raises UndecodableImage.
    """
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I;16", "I")):
            grey = np.asarray(image).astype(np.float32) / 257.0
            image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
        if not image.has_transparency_data:
            return Picture(np.asarray(image.convert("RGB")))
        layers = np.array(image.convert("RGBA"))
        layers[layers[:, :, 3] == 0] = (255, 255, 255, 0)
        alpha = np.ascontiguousarray(layers[:, :, 3])
        opaque = bool((alpha == 255).all())
        return Picture(np.ascontiguousarray(layers[:, :, :3]), None if opaque else alpha)
    except DECODE_ERRORS:
        raise UndecodableImage("the image data is broken or cut short") from None
