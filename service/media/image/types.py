"""Still images as they come in: what the decoder child says of an upload, and its pixels."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Names that Pillow has; in this order a file is tried, so that `mif1` is AVIF before HEIF.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")


MAX_NOTES, MAX_NOTE = 8, 200


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


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded still, upright.

    `image` is (H, W, 3) uint8 in sRGB, straight colours: not laid over anything. `alpha` is the
    file's own, (H, W) uint8, None where it is opaque everywhere; colours under alpha 0 are white.
    `own` is the same picture in the values of `icc`, an RGB profile that is not sRGB, else None.
    `exif` is the file's, its orientation set to upright; empty if there is none. `rows_there` is
    the share of rows that a file that ends early has; the others are grey. `notes` say what else
    had to be mended or converted, for people.
    """

    image: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    own: NDArray[np.uint8] | None = None
    icc: bytes = b""
    exif: bytes = b""
    rows_there: float = 1.0
    notes: tuple[str, ...] = ()

    @cached_property
    def flat(self) -> NDArray[np.uint8]:
        """The picture over white, (H, W, 3) uint8: what a viewer without alpha shows."""
        if self.alpha is None:
            return self.image
        weight = np.float32(self.alpha) / 255
        white = np.full_like(self.image, 255)
        flat: NDArray[np.uint8] = cv2.blendLinear(self.image, white, weight, 1 - weight)
        return flat

    def to_wire(self) -> tuple[dict[str, Any], list[bytes | memoryview]]:
        """Return the header of a message and the parts of its payload."""
        height, width = self.image.shape[:2]
        header = {
            "width": width,
            "height": height,
            "alpha": self.alpha is not None,
            "own": self.own is not None,
            "icc": len(self.icc),
            "exif": len(self.exif),
            "rows_there": self.rows_there,
            "notes": list(self.notes),
        }
        layers = [layer for layer in (self.image, self.alpha, self.own) if layer is not None]
        flat = [np.ascontiguousarray(layer).reshape(-1).data for layer in layers]
        return header, [*flat, self.icc, self.exif]

    @classmethod
    def from_wire(cls, header: dict[str, Any], payload: NDArray[np.uint8]) -> "Picture":
        """Return what `to_wire` was given; raises KeyError, TypeError or ValueError.

        `payload` holds the parts one after another; the layers are views of it.
        """
        height, width = int(header["height"]), int(header["width"])
        position = 0

        def take(*shape: int) -> NDArray[np.uint8]:
            nonlocal position
            start, position = position, position + math.prod(shape)
            return payload[start:position].reshape(shape)

        if min(height, width) < 1:
            raise ValueError("a picture without pixels")
        image = take(height, width, 3)
        alpha = take(height, width) if header["alpha"] else None
        own = take(height, width, 3) if header["own"] else None
        icc, exif = (take(int(header[name])).tobytes() for name in ("icc", "exif"))
        if position != len(payload):
            raise ValueError("more bytes than the header promised")
        notes = tuple(str(note)[:MAX_NOTE] for note in list(header["notes"])[:MAX_NOTES])
        rows_there = min(1.0, max(0.0, float(header["rows_there"])))
        return cls(image, alpha, own, icc, exif, rows_there, notes)
