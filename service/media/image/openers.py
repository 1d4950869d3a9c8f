"""Headers of files, format by format: what is described, what has to be mended."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from service.media.image.damage import (
    DAMAGED,
    decode_jpeg,
    ends_too_soon,
    find_jpeg_flaw,
    has_webp_flaw,
)
from service.media.image.formats.bmp import BmpFile, decode_fields, mend_bmp, read_bmp
from service.media.image.formats.bmp_runs import draw_runs
from service.media.image.formats.gif import check_blocks
from service.media.image.formats.heif import open_heif
from service.media.image.formats.jpeg import mend_jpeg
from service.media.image.formats.png import PngFile, count_rows, fill_up, mend_png
from service.media.image.formats.tiff import choose_page, fix_palette
from service.media.image.formats.webp import (
    close_webp,
    count_stated,
    decode_cut,
    find_frame,
    is_cut,
    lacks_pixels,
)
from service.media.image.source import Deep, Pixels, Source, open_file, take_file
from service.media.image.strict import has_av1_or_hevc_flaw
from service.media.image.truncated import (
    accept_truncated,
    find_missing_jpeg,
    load_with_noise,
    repeat_rows,
)
from service.media.image.types import UndecodableImage

_LAST_BYTES = 8  # of a WebP that its decoder may not need


def open_source(data: bytes | bytearray, format: str) -> Source:
    """Read the header; raises those of types.py and what Pillow raises."""
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
        case "WEBP":
            return _open_webp(data)
        case "AVIF" | "HEIF":
            return _watch_heif(open_heif(data), data)
    return take_file(open_file(data, format))


def _drop_notes(dropped: tuple[str, ...]) -> list[str]:
    return [f"damaged and left out: {', '.join(sorted(set(dropped)))}"] if dropped else []


def _open_jpeg(data: bytes | bytearray) -> Source:
    jpeg = mend_jpeg(data)
    scans = jpeg.scans
    source = take_file(open_file(jpeg.data, "JPEG"))
    source.notes = _drop_notes(jpeg.dropped)
    file = source.file
    assert file is not None

    def load() -> Pixels:
        if scans.lacks_colour:
            raise UndecodableImage("the JPEG is cut short: it ends before all of its colours came")
        if file.mode == "RGB" and scans.is_closed and not scans.is_progressive:
            rgb, flaw = decode_jpeg(jpeg.data)
            if flaw is None and rgb is not None and rgb.shape[1::-1] == file.size:
                return Pixels(rgb=rgb)
        else:
            flaw = find_jpeg_flaw(jpeg.data)
        file.load()
        if flaw is None and scans.is_closed and not scans.lacks_bits:
            return Pixels(file)
        missing = find_missing_jpeg(jpeg, file)
        is_cut = bool(missing.any()) or scans.lacks_bits
        if flaw is not None and not (is_cut and ends_too_soon(flaw)):
            source.notes.append(DAMAGED)
        if missing.any() and not scans.has_all_rows:
            return Pixels(file, missing=missing)
        if is_cut:
            source.notes.append("the file ends early: the picture is coarser than it was")
        return Pixels(file)

    source.load = load
    return source


def _open_png(data: bytes | bytearray) -> Source:
    png = mend_png(data)
    source = take_file(open_file(png.data, "PNG"))
    file = source.file
    assert file is not None
    # Set before anybody asks, or Pillow decodes all pixels to look for it behind them.
    if "Raw profile type exif" not in file.info:
        file.info["exif"] = png.exif
    source.colour, source.icc = png.colour, png.icc
    source.notes, source.pictures = _drop_notes(png.dropped), png.frames
    source.load = lambda: _load_png(png, file)
    return source


def _load_png(png: PngFile, file: ImageFile.ImageFile) -> Pixels:
    if not png.is_whole:
        return _load_cut_png(png, file)
    if png.needs_all_bits:
        pixels = _load_deep_png(png, png.drop_key() if png.key else png.data)
        if pixels is not None:
            return pixels
    try:
        file.load()
    except OSError:
        return _load_cut_png(png, open_file(png.data, "PNG"))
    return Pixels(file)


def _load_deep_png(png: PngFile, codes: bytes | bytearray) -> Pixels | None:
    """Return the pixels of a file of 16 bits without its key, None where it cannot be decoded."""
    deep = cv2.imdecode(np.frombuffer(codes, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        return None
    return _take_deep(_order_channels(deep), png)


def _take_deep(deep: Deep, png: PngFile) -> Pixels:
    """Return codes of 16 bits; sRGB in the upper eight, as Pillow has it."""
    alpha = None
    if png.key:
        red, green, blue = np.frombuffer(png.key, ">u2").tolist()
        hidden = (deep[..., 0] == red) & (deep[..., 1] == green) & (deep[..., 2] == blue)
        alpha = np.where(hidden, np.uint16(0), np.uint16(65535))
    if not png.colour.is_srgb:
        return Pixels(deep=deep if alpha is None else np.dstack([deep, alpha]))
    shallow = np.empty((*deep.shape[:2], 4), np.uint8)
    shallow[..., 3] = 255 if alpha is None else alpha >> 8
    shallow[..., :3] = np.right_shift(deep, 8, out=deep)
    return Pixels(Image.fromarray(shallow))


def _load_cut_png(png: PngFile, file: ImageFile.ImageFile) -> Pixels:
    if png.is_interlaced:
        raise UndecodableImage("an interlaced PNG that is damaged or ends early is not read")
    rows = count_rows(png.data)
    missing = np.arange(file.height) >= rows
    if png.needs_all_bits:
        pixels = _load_deep_png(png, fill_up(png.data, rows))
        if pixels is not None:
            pixels.missing = missing
            return pixels
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
    chosen, page, count = choose_page(data)
    # Pillow's own reader mixes up planes of 16 bits; libtiff, which it has for all else, does not.
    TiffImagePlugin.READ_LIBTIFF = page is not None and page.needs_libtiff
    try:
        file = open_file(chosen, "TIFF")
    finally:
        TiffImagePlugin.READ_LIBTIFF = False
    assert isinstance(file, TiffImagePlugin.TiffImageFile)
    if page is not None and page.is_signed_byte:  # Pillow takes them for unsigned ones
        raise UndecodableImage(f"a coding of TIFF that is not read: {page.layout}")
    source = take_file(file)
    source.pictures = count

    def load() -> Pixels:
        file.load()
        fix_palette(file, page)
        return Pixels(file)

    source.load = load
    return source


def _open_bmp(data: bytes | bytearray) -> Source:
    data = mend_bmp(data)
    header = read_bmp(data)
    if header is not None and header.has_runs:
        source = _open_runs(data, header)
    elif header is None or header.masks is None:
        source = take_file(open_file(data, "BMP"))
    else:
        source = _open_fields(data, header)
    if header is not None:
        source.icc, source.colour = header.icc, header.colour
    return source


def _open_fields(data: bytes | bytearray, header: BmpFile) -> Source:
    return Source(
        "BMP",
        (header.width, header.height),
        lambda: Pixels(Image.fromarray(decode_fields(data, header))),
    )


def _open_runs(data: bytes | bytearray, header: BmpFile) -> Source:
    source = take_file(open_file(data, "BMP"))
    file = source.file
    assert file is not None
    source.load = lambda: Pixels(draw_runs(file, data, header, source.notes))
    return source


def _open_gif(data: bytes | bytearray) -> Source:
    check_blocks(data)
    source = take_file(open_file(data, "GIF"))
    file = source.file
    assert file is not None
    left, top, right, bottom = file.tile[0].extents or (0, 0, *file.size)

    def load() -> Pixels:
        try:
            file.load()
            pixels = Pixels(file)
        except OSError:
            pixels = _load_cut_gif(open_file(data, "GIF"), top, bottom)
        return _clear_around(pixels, (left, top, right, bottom))

    source.load = load
    return source


def _clear_around(pixels: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """Make the canvas around the first frame of an animation transparent, as browsers have it."""
    image = pixels.image
    if image is not None and box != (0, 0, *image.size):
        pixels.image = Image.new("RGBA", image.size)
        pixels.image.paste(image.convert("RGBA").crop(box), box[:2])
    return pixels


def _watch_heif(source: Source, data: bytes | bytearray) -> Source:
    load = source.load

    def load_watched() -> Pixels:
        if has_av1_or_hevc_flaw(data):
            source.notes.append(DAMAGED)
        return load()

    source.load = load_watched
    return source


def _open_webp(data: bytes | bytearray) -> Source:
    whole = close_webp(data) if is_cut(data) else data
    source = take_file(open_file(whole, "WEBP"))
    file = source.file
    assert file is not None

    def load() -> Pixels:
        if lacks_pixels(data):
            image, missing = decode_cut(data)
            if not missing.any() and len(data) < count_stated(data) - _LAST_BYTES:
                source.notes.append(DAMAGED)  # a decoder that needs less than there was
            return Pixels(image, missing=missing)
        file.load()
        if has_webp_flaw(whole, file):
            source.notes.append(DAMAGED)
        return _clear_around(Pixels(file), find_frame(data) or (0, 0, *file.size))

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
