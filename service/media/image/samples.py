"""Convert samples of any depth to 8 bits, with alpha apart (decoder child)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_STRIP_PIXELS = 1 << 20
_BASES = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK", "LAB": "LAB"}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_UNSIGNED = 1
LACKING = "colours that its palette lacks are black"


def cut_strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield (rows, that part of the image), a megapixel at a time: no copy of the whole is made."""
    width, height = image.size
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        rows = slice(top, min(height, top + step))
        yield rows, image.crop((0, rows.start, width, rows.stop))


@dataclass(frozen=True)
class Samples:
    """How the samples of one file become 8-bit values and alpha.

    `mode` is Pillow's for the values: RGB, L, CMYK or LAB. Samples of more than 8 bits come as
    numbers up to `full`, which is white (black if `is_inverted`). `key` is the one value that a PNG
    calls transparent.
    """

    mode: str
    full: float = 0
    is_inverted: bool = False
    is_unsigned: bool = False
    key: Any = None

    @property
    def is_deep(self) -> bool:
        return self.full > 0

    def split(self, strip: Image.Image) -> tuple[Image.Image, NDArray[np.uint8] | None]:
        """Return the values in `mode`, and alpha (H, W) or None where the file has none."""
        if self.is_deep:
            return self._scale(strip)
        if self.key is not None:
            strip.info["transparency"] = self.key
        if not strip.has_transparency_data:
            return strip if strip.mode == self.mode else strip.convert(self.mode), None
        if strip.mode in ("La", "RGBa"):  # premultiplied
            strip = strip.convert("LA" if strip.mode == "La" else "RGBA")
        layers = strip.convert("RGBA")
        alpha = np.asarray(layers.getchannel("A"))
        return layers.getchannel("R") if self.mode == "L" else layers.convert("RGB"), alpha

    def _scale(self, strip: Image.Image) -> tuple[Image.Image, NDArray[np.uint8] | None]:
        numbers = _read_numbers(strip, self.is_unsigned)
        values = np.clip(numbers * np.float32(255 / self.full) + np.float32(0.5), 0, 255)
        scaled = values.astype(np.uint8)
        alpha = None
        if self.key is not None:
            alpha = np.where(numbers == self.key, 0, 255).astype(np.uint8)
        return Image.fromarray(255 - scaled if self.is_inverted else scaled), alpha


def complete_palette(image: Image.Image) -> bool:
    """Make colours black that a palette lacks, as libpng does; return whether pixels use them."""
    if image.mode != "P":
        return False
    colours = image.getpalette() or []
    count = len(colours) // 3
    used = {number for number, pixels in enumerate(image.histogram()) if pixels}
    if max(used - {image.info.get("transparency")}, default=0) < count:
        return False
    image.putpalette(colours + [0] * (768 - len(colours)))
    return True


def find_transparent_value(file: ImageFile.ImageFile) -> Any:
    """Return the value that a PNG without alpha calls transparent, as its decoded samples have it.

    Pillow gives it as the file has it and the samples scaled to 8 bits. To be called before the
    pixels are loaded.
    """
    key = file.info.get("transparency")
    kind = file.tile[0].args if file.format == "PNG" and file.tile else None
    if isinstance(key, int) and kind in ("L;2", "L;4"):
        return key * (85 if kind == "L;2" else 17)
    if isinstance(key, tuple) and kind == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key if kind == "I;16B" else None


def describe_samples(image: Image.Image, tags: Mapping[int, Any], key: Any) -> Samples:
    """Return how a loaded image is to be read; `tags` are those of a TIFF, else empty.

    Integers of 16 bits have white at the end of their range. So have those of 32 bits, unless none
    is above 65,535: then they are 16 bits in a larger box. Floats have white at 1, or where
    numbers are larger at 255, at 65,535 or at the largest.
    """
    mode, bits = image.mode, int(tags.get(_TIFF_BITS, (32,))[0])
    if not mode.startswith(("I", "F")):
        return Samples(_BASES.get(mode, "RGB"), key=key)
    is_inverted = tags.get(_TIFF_PHOTOMETRIC) == 0
    if mode.startswith("I;16"):
        return Samples("L", 4095 if bits == 12 else 65535, is_inverted, key=key)
    is_unsigned = mode == "I" and tuple(tags.get(_TIFF_SAMPLE_FORMAT, (_UNSIGNED,))) == (_UNSIGNED,)
    peak = max(float(_read_numbers(part, is_unsigned).max()) for _, part in cut_strips(image))
    if mode == "F":
        full = next((level for level in (1.0, 255.0, 65535.0) if peak <= level), peak)
    elif bits == 16:
        full = 32767
    else:
        full = 65535 if peak <= 65535 else 2**32 - 1 if is_unsigned else 2**31 - 1
    return Samples("L", full, is_inverted, is_unsigned)


def _read_numbers(strip: Image.Image, is_unsigned: bool) -> NDArray[np.float32]:
    """Return samples as (H, W) float32, what is no number as 0."""
    samples = np.asarray(strip)
    if is_unsigned:
        samples = samples.view(np.uint32)  # Pillow reads them as signed
    numbers = samples.astype(np.float32)
    return np.nan_to_num(numbers, copy=False, nan=0, posinf=0, neginf=0)
