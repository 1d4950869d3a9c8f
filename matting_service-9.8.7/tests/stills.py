"""What tests of stills share: files of any orientation, and reading as the child does."""

import numpy as np
from PIL import Image

from service.media.image.reader import decode_image, open_image
from service.media.image.types import Picture
from tests.helpers import encode

ORIENTATION = 0x0112
# The settings that change least; JPEG and AVIF still round.
LOSSLESS = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True, "exact": True},
}
_TRANSPOSE = Image.Transpose
_STORED_AS = {  # the turn that undoes what the EXIF orientation asks for
    1: None,
    2: _TRANSPOSE.FLIP_LEFT_RIGHT,
    3: _TRANSPOSE.ROTATE_180,
    4: _TRANSPOSE.FLIP_TOP_BOTTOM,
    5: _TRANSPOSE.TRANSPOSE,
    6: _TRANSPOSE.ROTATE_90,
    7: _TRANSPOSE.TRANSVERSE,
    8: _TRANSPOSE.ROTATE_270,
}


def store(upright: Image.Image | np.ndarray, orientation: int, format: str, **options) -> bytes:
    """Return a file whose pixels are turned and whose EXIF says how to turn them back."""
    image = Image.fromarray(upright) if isinstance(upright, np.ndarray) else upright
    if (turn := _STORED_AS[orientation]) is not None:
        image = image.transpose(turn)
    if format == "TIFF":
        return encode(image, format, tiffinfo={ORIENTATION: orientation}, **options)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(image, format, exif=exif.tobytes(), **options)


def read(data: bytes) -> Picture:
    """Return the picture of a file; its header must have told the picture's size."""
    opened = open_image(data)
    picture = decode_image(opened)
    assert picture.image.shape == (opened.info.height, opened.info.width, 3)
    for layer in (picture.alpha, picture.own):
        assert layer is None or layer.shape[:2] == picture.image.shape[:2]
        assert layer is None or layer.dtype == np.uint8
    return picture
