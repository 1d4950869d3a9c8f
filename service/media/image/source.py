"""One file whose header is read, ready for its decoder. For the decoder child alone."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from service.media.colour.description import SRGB, Colour
from service.media.image.formats.directories import bound_directories
from service.media.image.truncated import Missing

# Named here, or Pillow would import the plug-ins of all its formats at the first WebP.
_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
pillow_heif.register_heif_opener(
    thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
)
# One thread: each reserves address space, and there is a child for each half of the cores.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
PngImagePlugin.MAX_TEXT_CHUNK = 4 << 20  # holds for profiles too
bound_directories()
# The pixel limit is the caller's, who knows the setting; memory is bounded by RLIMIT_AS.
Image.MAX_IMAGE_PIXELS = None

Deep = NDArray[np.uint16]


@dataclass(eq=False)
class Pixels:
    """Loaded pixels, not yet turned: Pillow's, or (H, W, 3 or 4) codes of 16 bits up to `full`.

    `rgb`: (H, W, 3) uint8 in the file's colours, where another library has decoded them.

    `missing` are the rows of a file that ends early; `rows_there` is the share of the others, where
    some of the missing ones were filled in.
    """

    image: Image.Image | None = None
    deep: Deep | None = None
    rgb: NDArray[np.uint8] | None = None
    full: int = 65535
    missing: Missing | None = None
    rows_there: float | None = None

    @property
    def share(self) -> float:
        if self.rows_there is not None or self.missing is None:
            return 1.0 if self.rows_there is None else self.rows_there
        return 1 - float(self.missing.mean())


@dataclass(eq=False)
class Source:
    """A file whose header is read.

    `file` is Pillow's, None where `load` decodes without it. `colour` is what the file says by
    codes or numbers, `icc` its profile; None: what Pillow finds. `notes` say what was dropped.
    `pictures`: frames of a PNG, pages of a TIFF.
    """

    format: str
    size: tuple[int, int]
    load: Callable[[], Pixels]
    file: ImageFile.ImageFile | None = None
    colour: Colour = SRGB
    icc: bytes | None = None
    orientation: int = 1
    notes: list[str] = field(default_factory=list)
    pictures: int = 0

    def release(self) -> None:
        """Forget the file, whose pixels have been loaded."""
        self.file, self.load = None, Pixels


def open_file(data: bytes | bytearray, *formats: str) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data), formats=formats)


def take_file(file: ImageFile.ImageFile) -> Source:
    """Return the source of a file that Pillow reads by itself."""

    def load() -> Pixels:
        file.load()
        return Pixels(file)

    return Source(str(file.format), file.size, load, file)
