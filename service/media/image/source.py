"""One file made ready for its decoder, format by format. For the decoder child alone."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
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
from service.media.image.avif import AvifPixels, decode_avif, open_avif
from service.media.image.bmp import BmpFile, decode_fields, read_bmp
from service.media.image.boxes import find_nclx
from service.media.image.jpeg import mend_jpeg
from service.media.image.png import PngFile, count_rows, mend_png
from service.media.image.tiff import choose_page, fix_palette
from service.media.image.truncated import (
    Missing,
    accept_truncated,
    find_missing_jpeg,
    load_with_noise,
    looks_cut,
    repeat_rows,
)
from service.media.image.types import FORMATS

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

Deep = NDArray[np.uint16]


@dataclass(eq=False)
class Pixels:
    """Loaded pixels, not yet turned: Pillow's, or (H, W, 3 or 4) codes of 16 bits up to `full`.

    `missing` are the rows of a file that ends early; `rows_there` is the share of the others, where
    some of the missing ones were filled in.
    """

    image: Image.Image | None = None
    deep: Deep | None = None
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
    """

    format: str
    size: tuple[int, int]
    load: Callable[[], Pixels]
    file: ImageFile.ImageFile | None = None
    colour: Colour = SRGB
    icc: bytes | None = None
    orientation: int = 1
    notes: list[str] = field(default_factory=list)

    def release(self) -> None:
        """Forget the file, whose pixels have been loaded."""
        self.file, self.load = None, Pixels


def open_source(data: bytes | bytearray, format: str) -> Source:
    """Read the header; raises UndecodableImage, UnknownFormat and what Pillow raises."""
    match format:
        case "JPEG":
            return _open_jpeg(data)
        case "PNG":
            return _open_png(data)
        case "TIFF":
            return _open_tiff(data)
        case "BMP":
            return _open_bmp(data)
        case "GIF":
            return _open_gif(data)
        case "AVIF" | "HEIF":
            return _open_heif(data)
    return _take(_open(data, format))


def _open(data: bytes | bytearray, *formats: str) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data), formats=formats)


def _take(file: ImageFile.ImageFile) -> Source:
    """Return the source of a file that Pillow reads by itself."""

    def load() -> Pixels:
        file.load()
        return Pixels(file)

    return Source(str(file.format), file.size, load, file)


def _drop_notes(dropped: tuple[str, ...]) -> list[str]:
    return [f"damaged and left out: {', '.join(sorted(set(dropped)))}"] if dropped else []


def _open_jpeg(data: bytes | bytearray) -> Source:
    jpeg = mend_jpeg(data)
    source = _take(_open(jpeg.data, "JPEG"))
    source.notes = _drop_notes(jpeg.dropped)
    file = source.file
    assert file is not None

    def load() -> Pixels:
        file.load()
        if jpeg.is_whole and (jpeg.is_progressive or not looks_cut(file)):
            return Pixels(file)
        missing = find_missing_jpeg(bytes(jpeg.data), file)
        if jpeg.has_scans and missing.any():
            # The first scan has all rows, coarse ones.
            source.notes.append("the file ends early: the picture is coarser than it was")
            return Pixels(file)
        return Pixels(file, missing=missing)

    source.load = load
    return source


def _open_png(data: bytes | bytearray) -> Source:
    png = mend_png(data)
    source = _take(_open(png.data, "PNG"))
    file = source.file
    assert file is not None
    # Set before anybody asks, or Pillow decodes all pixels to look for it behind them.
    if "Raw profile type exif" not in file.info:
        file.info["exif"] = png.exif
    source.colour, source.icc = png.colour, png.icc
    source.notes = _drop_notes(png.dropped)
    source.load = lambda: _load_png(png, file)
    return source


def _load_png(png: PngFile, file: ImageFile.ImageFile) -> Pixels:
    if not png.is_whole:
        return _load_cut_png(png, file)
    if png.bits == 16 and not png.colour.is_srgb and not png.has_key:
        deep = cv2.imdecode(np.frombuffer(png.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if deep is not None and deep.dtype == np.uint16:
            return Pixels(deep=_order_channels(deep))
    try:
        file.load()
    except OSError:
        return _load_cut_png(png, _open(png.data, "PNG"))
    return Pixels(file)


def _load_cut_png(png: PngFile, file: ImageFile.ImageFile) -> Pixels:
    missing = np.arange(file.height) >= count_rows(png.data)
    with accept_truncated():
        file.load()
    return Pixels(file, missing=missing)


def _order_channels(deep: NDArray[np.uint16]) -> Deep:
    """Return OpenCV's grey, BGR or BGRA as RGB or RGBA."""
    if deep.ndim == 2:
        return np.repeat(deep[:, :, np.newaxis], 3, 2)
    order = [2, 1, 0] if deep.shape[2] == 3 else [2, 1, 0, 3]
    return np.ascontiguousarray(deep[:, :, order])


def _open_tiff(data: bytes | bytearray) -> Source:
    chosen, page = choose_page(data)
    # Pillow's own reader mixes up planes of 16 bits; libtiff, which it has for all else, does not.
    TiffImagePlugin.READ_LIBTIFF = page is not None and page.needs_libtiff
    try:
        file = _open(chosen, "TIFF")
    finally:
        TiffImagePlugin.READ_LIBTIFF = False
    assert isinstance(file, TiffImagePlugin.TiffImageFile)
    source = _take(file)

    def load() -> Pixels:
        file.load()
        fix_palette(file, page)
        return Pixels(file)

    source.load = load
    return source


def _open_bmp(data: bytes | bytearray) -> Source:
    header = read_bmp(data)
    if header is None or header.masks is None:
        source = _take(_open(data, "BMP"))
    else:
        source = _open_fields(data, header)
    source.icc = header.icc if header else None
    return source


def _open_fields(data: bytes | bytearray, header: BmpFile) -> Source:
    return Source(
        "BMP",
        (header.width, header.height),
        lambda: Pixels(Image.fromarray(decode_fields(data, header))),
    )


def _open_gif(data: bytes | bytearray) -> Source:
    source = _take(_open(data, "GIF"))
    file = source.file
    assert file is not None
    left, top, right, bottom = file.tile[0].extents or (0, 0, *file.size)

    def load() -> Pixels:
        try:
            file.load()
            pixels = Pixels(file)
        except OSError:
            pixels = _load_cut_gif(_open(data, "GIF"), top, bottom)
        if (left, top, right, bottom) != (0, 0, *file.size) and pixels.image:
            # The canvas around the frame is transparent, as browsers have it.
            layers = pixels.image.convert("RGBA")
            pixels.image = Image.new("RGBA", file.size)
            pixels.image.paste(layers.crop((left, top, right, bottom)), (left, top))
        return pixels

    source.load = load
    return source


def _load_cut_gif(file: ImageFile.ImageFile, top: int, bottom: int) -> Pixels:
    missing = load_with_noise(file)
    missing[:top] = missing[bottom:] = False
    if missing.all():
        raise ValueError("not one row is there")
    share = 1 - float(missing.mean())
    image, missing = repeat_rows(file, missing)
    return Pixels(image, missing=missing, rows_there=share)


def _open_heif(data: bytes | bytearray) -> Source:
    described = find_nclx(data)
    try:
        file = _open(data, *(name for name in FORMATS if name in ("AVIF", "HEIF")))
    except (OSError, SyntaxError, ValueError) as error:
        avif = open_avif(data)  # what strict readers refuse
        if avif is None:
            raise error
        return _from_avif(avif)
    source = _take(file)
    if "icc_profile" in file.info:
        return source
    source.colour = described or SRGB
    if file.format == "AVIF":
        if described is None or described.is_hdr:
            avif = open_avif(data)
            if avif and described is None:
                source.colour = avif.colour
            if avif and source.colour.is_hdr and avif.size == file.size:
                source.load = lambda: _load_avif(avif)
    elif int(file.info.get("bit_depth") or 8) > 8 and not source.colour.is_srgb:
        source.load = lambda: _load_deep_heif(data)
    return source


def _load_deep_heif(data: bytes | bytearray) -> Pixels:
    """Decode a HEIF of more than 8 bits as it is; Pillow has no such pictures."""
    heif = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = heif[heif.primary_index]
    codes = np.asarray(image)
    bits = image.info["bit_depth"]
    assert isinstance(bits, int)
    full = (1 << 16) - (1 << (16 - bits))  # libheif moves the bits up
    if codes.ndim == 2:
        codes = codes[:, :, np.newaxis]
    codes = codes[:, : image.size[0]]
    if codes.shape[2] < 3:
        codes = np.concatenate([np.repeat(codes[:, :, :1], 3, 2), codes[:, :, 1:]], 2)
    return Pixels(deep=np.ascontiguousarray(codes), full=full)


def _from_avif(avif: AvifPixels) -> Source:
    return Source(
        "AVIF",
        avif.size,
        lambda: _load_avif(avif),
        colour=avif.colour,
        orientation=avif.orientation,
        notes=["the file lacks what strict readers of AVIF ask for"],
    )


def _load_avif(avif: AvifPixels) -> Pixels:
    return Pixels(deep=decode_avif(avif))
