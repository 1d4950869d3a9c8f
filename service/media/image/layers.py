"""Write a picture of layers, for image editors."""

import importlib.util
import io
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_SIDE = 30_000  # pixels, of PSD


def is_installed() -> bool:
    """Whether the extra is there that writes layers."""
    return importlib.util.find_spec("psd_tools") is not None


def encode_layers(layers: dict[str, NDArray[np.uint8]], icc: bytes = b"") -> bytes:
    """Return a PSD of layers from the lowest to the uppermost, by name.

    They are (H, W, 3) RGB or (H, W, 4) straight RGBA, uint8, all of one size; every pixel comes
    back exactly. `icc` is the profile of their values.
    """
    file = io.BytesIO()
    save_layers({name: Image.fromarray(pixels) for name, pixels in layers.items()}, file, icc)
    return file.getvalue()


def save_layers(pictures: dict[str, Image.Image], target: BinaryIO, icc: bytes = b"") -> None:
    """Write a PSD of layers, RGB or RGBA, to an open file; see `encode_layers`."""
    from psd_tools import PSDImage  # an extra of its own
    from psd_tools.constants import Resource
    from psd_tools.psd.image_resources import ImageResource

    # What readers without layers show is the lowest one. In RGB alpha would become a mask.
    document = PSDImage.frompil(next(iter(pictures.values())).convert("RGBA"))
    for name, picture in pictures.items():
        document.create_pixel_layer(picture, name=name)
    if icc:
        key = Resource.ICC_PROFILE
        document.image_resources[key] = ImageResource(key=key, data=icc)
    # `save` would blend all layers in float32 first: six times the time, 120 bytes a pixel.
    document._record.write(target)
