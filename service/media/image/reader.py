"""Read still images: header, pixels, profile (decoder child)."""

import zlib
from dataclasses import dataclass, replace
from struct import error as struct_error

from PIL import Image, UnidentifiedImageError

from service.media.colour.description import ADOBE_RGB, Colour
from service.media.image.assembly import assemble_picture
from service.media.image.exif import read_orientation, serialise_exif, states_adobe_rgb
from service.media.image.formats.tiff import refuse_raw
from service.media.image.openers import open_source
from service.media.image.refusal import explain_header, explain_pixels
from service.media.image.several import note_others
from service.media.image.source import Source
from service.media.image.types import FORMATS, ImageInfo, Picture, UndecodableImage, UnknownFormat

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
# What files begin with: (format, offset, bytes). AVIF stands for all of its family, see Source.
_MAGIC = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("WEBP", 8, b"WEBP"),
    *(("HEIF", 4, b"ftyp" + one) for one in (b"avif", b"avis", *_HEIF_BRANDS, b"mif1", b"msf1")),
    *(("TIFF", 0, start) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("BMP", 0, b"BM"),
    ("GIF", 0, b"GIF8"),
)
_RAW_FILES = (
    (4, b"ftypcrx ", "CR3"),
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (0, b"IIRO", "ORF"),
    (0, b"IIRS", "ORF"),
    (0, b"MMOR", "ORF"),
    (0, b"IIU\0", "RW2"),
    (0, b"FOVb", "X3F"),
    (0, b"\0MRM", "MRW"),
)
_CLIPS = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV"),
)
# Other pictures and documents that people send, and their names.
_OTHERS = (
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file, perhaps an SVG drawing"),
    (b"%PDF", "a PDF"),
    (b"PK\3\4", "a ZIP archive"),
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


@dataclass(eq=False)
class OpenedImage:
    """A file whose header is read, to be decoded once.

    `orientation` is the EXIF value that is still to be applied.
    """

    info: ImageInfo
    orientation: int
    source: Source | None
    data: bytes | bytearray

    def take_source(self) -> Source:
        """Return the source, so that its memory goes when the taker is done with it."""
        assert self.source is not None
        source, self.source = self.source, None
        return source


def open_image(data: bytes | bytearray) -> OpenedImage:
    """Read the header only; raises UnknownFormat, UndecodableImage or TooComplexImage."""
    if not data:
        raise UndecodableImage("the file is empty")
    format = next((f for f, at, magic in _MAGIC if data[at : at + len(magic)] == magic), None)
    for at, magic, kind in _RAW_FILES:
        if data[at : at + len(magic)] == magic:
            raise refuse_raw(kind)
    if format is None and any(data[at : at + len(magic)] == magic for at, magic in _CLIPS):
        raise UnknownFormat("the file is a clip; POST /v1/video takes clips")
    name = next((name for magic, name in _OTHERS if data.startswith(magic)), None)
    if format is None and name is not None:
        raise UnknownFormat(f"the file is {name}, which is not read; send {', '.join(FORMATS)}")
    if format is None:
        raise UnknownFormat(f"the file is none of {', '.join(FORMATS)}")
    try:
        source = open_source(data, format)
        source.notes += note_others(source, data)
        orientation = _read_orientation(source)
        source.colour = _choose_colour(source)
        width, height = source.size if orientation < 5 else source.size[::-1]
        if min(width, height) < 1:
            raise ValueError("no pixels")
    except (UnidentifiedImageError, *_DECODE_ERRORS):
        raise UndecodableImage(explain_header(data, format)) from None
    return OpenedImage(ImageInfo(width, height, source.format), orientation, source, data)


def decode_image(opened: OpenedImage) -> Picture:
    """Decode the opened picture, first frame only; raises UndecodableImage."""
    source = opened.take_source()
    try:
        exif = _read_exif(source)
        picture = assemble_picture(source, opened.orientation)
        if picture.image.shape[:2] != (opened.info.height, opened.info.width):
            raise ValueError("another size than the header says")
        return replace(picture, exif=exif)
    except _DECODE_ERRORS:
        raise UndecodableImage(explain_pixels(opened.data, opened.info.format)) from None


def _read_orientation(source: Source) -> int:
    if source.file is None or source.format == "TIFF":
        return source.orientation  # Pillow turns a TIFF while it decodes: its size is upright
    try:
        return read_orientation(source.file.getexif())
    except _DECODE_ERRORS:
        return 1


def _choose_colour(source: Source) -> Colour:
    """Return the colour of a source; where nothing else describes it, by the mark of a camera."""
    file = source.file
    if source.format != "JPEG" or file is None or file.mode != "RGB" or "icc_profile" in file.info:
        return source.colour
    try:
        return ADOBE_RGB if states_adobe_rgb(file.getexif()) else source.colour
    except _DECODE_ERRORS:
        return source.colour


def _read_exif(source: Source) -> bytes:
    """Return the EXIF to carry along; a photo is worth more than its broken EXIF."""
    try:
        return serialise_exif(source.file.getexif()) if source.file else b""
    except _DECODE_ERRORS:
        return b""
