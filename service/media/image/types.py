"""Decoded still images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from annotated_types import Interval, Len
from numpy.typing import NDArray

from service.media.wire.fields import STRICT, Count, Name

# Names that Pillow has; in this order a file is tried, so that `mif1` is AVIF before HEIF.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")
MAX_SIDE = 1 << 32  # more than any format can say
MAX_NOTES, MAX_NOTE = 8, 200
Note = Annotated[str, Len(max_length=MAX_NOTE)]


class UnknownFormat(Exception):
    """The bytes are of no image format that the service reads."""


class TooComplexImage(Exception):
    """The structure of a file costs far more work than its picture; the text is for the user."""

    def __init__(self, format: str, what: str, limit: int, actual: int) -> None:
        super().__init__(f"the {format} has {actual:,} {what} or more, the limit is {limit:,}")
        self.limit = limit
        self.actual = actual


class UndecodableImage(Exception):
    """The bytes begin as an image and cannot be decoded; the text is for the user."""


@dataclass(frozen=True)
class ImageInfo:
    """What the header says: size in pixels after EXIF orientation, and the format."""

    width: Annotated[int, Interval(ge=0, le=MAX_SIDE)]
    height: Annotated[int, Interval(ge=0, le=MAX_SIDE)]
    format: Name

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


@dataclass(frozen=True)
class PictureHeader:
    """The size of a picture, which layers follow it, the bytes of profile, EXIF and the rest."""

    width: Annotated[int, Interval(ge=1, le=MAX_SIDE)]
    height: Annotated[int, Interval(ge=1, le=MAX_SIDE)]
    alpha: bool
    own: bool
    icc: Count
    exif: Count
    rows_there: Annotated[float, Interval(ge=0, le=1)]
    notes: Annotated[tuple[Note, ...], Len(max_length=MAX_NOTES)]

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


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
        """The picture over white, made when it is first asked for: never on the event loop."""
        return self.lay_over_white()

    def list_changes(self) -> list[str]:
        """Return what was mended or converted, for people: the notes, and rows that are missing."""
        if self.rows_there == 1:
            return list(self.notes)
        share = f"{self.rows_there:.0%}"
        return [*self.notes, f"the file ends early, {share} of its rows are there"]

    def lay_over_white(self) -> NDArray[np.uint8]:
        """Return what a viewer without alpha shows, (H, W, 3) uint8."""
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
            "notes": [note[:MAX_NOTE] for note in self.notes[:MAX_NOTES]],
        }
        layers = [layer for layer in (self.image, self.alpha, self.own) if layer is not None]
        flat = [np.ascontiguousarray(layer).reshape(-1).data for layer in layers]
        return header, [*flat, self.icc, self.exif]
