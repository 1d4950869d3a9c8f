"""Read still images: header, pixels, profile (decoder child)."""

import io
import zlib
from dataclasses import dataclass
from struct import error as struct_error

import numpy as np
import pillow_heif
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.media.image.colour import Colours, choose_colours
from service.media.image.exif import find_png_exif, read_orientation, serialise_exif
from service.media.image.samples import (
    Samples,
    cut_strips,
    describe_samples,
    find_transparent_value,
)
from service.media.image.types import FORMATS, ImageInfo, Picture, UndecodableImage, UnknownFormat

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
# The pixel limit is the caller's, who knows the setting; memory is bounded by RLIMIT_AS.
Image.MAX_IMAGE_PIXELS = None

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_MAGIC = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (8, b"WEBP"),
    *((4, b"ftyp" + brand) for brand in (b"avif", b"avis", *_HEIF_BRANDS, b"mif1", b"msf1")),
    *((0, start) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (0, b"BM"),
    (0, b"GIF8"),
)
# What Pillow and libheif raise on broken files; anything else ends the child, answered alike.
_DECODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    UnicodeError,
    ValueError,
    Image.DecompressionBombError,
    struct_error,
    zlib.error,
)
_TURNS = {  # what makes a picture of each EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(eq=False)
class OpenedImage:
    """A file whose header is read, to be decoded once.

    `orientation` is the EXIF value that is still to be applied.
    """

    info: ImageInfo
    orientation: int
    file: ImageFile.ImageFile | None

    def take_file(self) -> ImageFile.ImageFile:
        """Return the file, so that its memory goes when the taker is done with it."""
        assert self.file is not None
        file, self.file = self.file, None
        return file


def open_image(data: bytes | bytearray) -> OpenedImage:
    """Read the header only; raises UnknownFormat or UndecodableImage."""
    if not any(data[at : at + len(magic)] == magic for at, magic in _MAGIC):
        if not data:
            raise UndecodableImage("the file is empty")
        raise UnknownFormat(f"the file is none of {', '.join(FORMATS)}")
    try:
        file = Image.open(io.BytesIO(data), formats=FORMATS)
        name = "JPEG" if file.format == "MPO" else str(file.format)
        if name == "PNG" and not {"exif", "Raw profile type exif"} & file.info.keys():
            # Set before anybody asks, or Pillow decodes all pixels to look for it behind them.
            file.info["exif"] = find_png_exif(data)
    except UnidentifiedImageError:
        raise UndecodableImage(_explain(data)) from None
    except _DECODE_ERRORS:
        raise UndecodableImage("the header of the image is broken") from None
    # Pillow turns a TIFF while it decodes, and its size is the upright one already.
    orientation = 1 if name == "TIFF" else _read_orientation(file)
    width, height = file.size if orientation < 5 else file.size[::-1]
    return OpenedImage(ImageInfo(width, height, name), orientation, file)


def decode_image(opened: OpenedImage) -> Picture:
    """Decode the opened picture, first frame only; raises UndecodableImage."""
    file = opened.take_file()
    try:
        exif = _read_exif(file)
        key = find_transparent_value(file)
        tags = file.tag_v2 if isinstance(file, TiffImagePlugin.TiffImageFile) else {}
        file.load()
        icc = _read_profile(file)
        turn = _TURNS.get(opened.orientation)
        image = file if turn is None else file.transpose(turn)
        del file  # some hold a second copy of the pixels
        if image.size != (opened.info.width, opened.info.height):
            raise ValueError("another size than the header says")
        samples = describe_samples(image, tags, key)
        return _fill_picture(image, samples, choose_colours(samples.mode, icc), exif)
    except _DECODE_ERRORS:
        raise UndecodableImage("the image data is broken or cut short") from None


def _fill_picture(image: Image.Image, samples: Samples, colours: Colours, exif: bytes) -> Picture:
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    own = np.empty_like(pixels) if colours.has_own else None
    alpha = None
    for rows, strip in cut_strips(image):
        values, opacity = samples.split(strip)
        pixels[rows] = np.asarray(colours.to_srgb(values))
        if own is not None:
            own[rows] = np.asarray(values)
        if opacity is None:
            continue
        if alpha is None:
            alpha = np.empty((height, width), np.uint8)
        alpha[rows] = opacity
        for layer in (pixels, own):
            if layer is not None:
                layer[rows][opacity == 0] = 255
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Picture(pixels, alpha, own, colours.icc, exif)


def _read_profile(file: ImageFile.ImageFile) -> bytes:
    icc = file.info.get("icc_profile")
    return icc if isinstance(icc, bytes) else b""


def _explain(data: bytes | bytearray) -> str:
    if data[:2] in (b"II", b"MM"):
        return "the header is broken, or this kind of TIFF (bits, samples, compression) is not read"
    return "the header of the image is broken"


def _read_orientation(file: ImageFile.ImageFile) -> int:
    try:
        return read_orientation(file.getexif())
    except _DECODE_ERRORS:
        return 1


def _read_exif(file: ImageFile.ImageFile) -> bytes:
    """Return the EXIF to carry along; a photo is worth more than its broken EXIF."""
    try:
        return serialise_exif(file.getexif())
    except _DECODE_ERRORS:
        return b""
