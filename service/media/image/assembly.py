"""From decoded pixels to a picture: upright, in sRGB, alpha apart. For the decoder child alone."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from service.media.colour.convert import Codes, SrgbConverter
from service.media.colour.description import Colour
from service.media.image.colour import Colours, choose_colours
from service.media.image.samples import (
    LACKING,
    Samples,
    complete_palette,
    cut_strips,
    describe_samples,
    find_transparent_value,
)
from service.media.image.source import Deep, Source
from service.media.image.truncated import check_share, fill_missing, mark_rows
from service.media.image.types import Picture

_TURNS = {  # what makes a picture of each EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP_ROWS = 256
Value = TypeVar("Value", np.uint8, np.uint16)
_GREY_PROFILE = b"GRAY"  # the colour model in the header of an ICC profile


def assemble_picture(source: Source, orientation: int) -> Picture:
    """Decode a source; raises UndecodableImage and whatever its decoder raises."""
    file = source.file
    key = find_transparent_value(file) if file else None
    tags = file.tag_v2 if isinstance(file, TiffImagePlugin.TiffImageFile) else {}
    pixels = source.load()
    icc = _read_profile(source)
    source.release()  # some files hold a second copy of the pixels
    del file
    notes = [*source.notes]
    missing, full = pixels.missing, pixels.full
    share = check_share(pixels.share)
    if pixels.deep is not None:
        deep, pixels.deep = pixels.deep, None
        deep = _turn_array(deep, orientation)
        picture = _split_deep(deep, full)
        peak = _convert(deep[:, :, :3], source.colour, full, picture.image)
    else:
        if pixels.rgb is not None:
            rgb, pixels.rgb = pixels.rgb, None
            colours = choose_colours("RGB", icc)
            picture = _to_srgb(np.ascontiguousarray(_turn_array(rgb, orientation)), colours)
        else:
            assert pixels.image is not None
            image, pixels.image = _turn(pixels.image, orientation), None
            if source.format == "WEBP" and icc[16:20] == _GREY_PROFILE:
                image = _take_grey(image)
            if complete_palette(image):
                notes.append(LACKING)
            samples = describe_samples(image, tags, key)
            colours = choose_colours(samples.mode, icc)
            picture = _fill(image, samples, colours)
        notes += [colours.note] if colours.note else []
        peak = _convert(picture.image, source.colour, 255, picture.image)
    _whiten(picture)
    if missing is not None and share < 1:
        _fill_missing(picture, _turn(mark_rows(missing, source.size[0]), orientation))
    notes += _describe_conversion(source.colour, peak)
    return replace(picture, rows_there=share, notes=tuple(notes))


def _describe_conversion(colour: Colour, peak: float) -> list[str]:
    if colour.is_srgb:
        return []
    how = ", tone-mapped by BT.2390" if peak > 1 else ""
    return [f"colours converted from {colour.name} to sRGB{how}"]


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _take_grey(image: Image.Image) -> Image.Image:
    """Return a picture in grey if all of its pixels are; WebP stores three equal channels."""
    red, green, blue = (image.getchannel(name) for name in "RGB")
    if red.tobytes() != green.tobytes() or green.tobytes() != blue.tobytes():
        return image
    return Image.merge("LA", (green, image.getchannel("A"))) if image.mode == "RGBA" else green


def _turn_array(pixels: NDArray[Value], orientation: int) -> NDArray[Value]:
    """Return (H, W, C) made upright; the turns of Pillow, which has no 16-bit colours."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _read_profile(source: Source) -> bytes:
    if source.icc is not None:
        return source.icc
    icc = source.file.info.get("icc_profile") if source.file else None
    return icc if isinstance(icc, bytes) else b""


def _fill(image: Image.Image, samples: Samples, colours: Colours) -> Picture:
    """Return the picture as its profile has it, what is under alpha 0 still as the file has it."""
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
    return Picture(pixels, _drop_opaque(alpha), own, colours.icc)


def _to_srgb(rgb: NDArray[np.uint8], colours: Colours) -> Picture:
    """Return the picture as its profile has it."""
    if colours.transform is None:
        return Picture(rgb, icc=colours.icc)
    image = np.empty_like(rgb)
    for top in range(0, len(rgb), _STRIP_ROWS):
        strip = Image.fromarray(rgb[top : top + _STRIP_ROWS])
        image[top : top + _STRIP_ROWS] = np.asarray(colours.to_srgb(strip))
    return Picture(image, own=rgb if colours.has_own else None, icc=colours.icc)


def _split_deep(deep: Deep, full: int) -> Picture:
    """Return a picture whose colours are still to be converted."""
    image = np.empty((*deep.shape[:2], 3), np.uint8)
    if deep.shape[2] < 4:
        return Picture(image)
    alpha = np.minimum(deep[:, :, 3] * np.float32(255 / full) + np.float32(0.5), 255)
    return Picture(image, _drop_opaque(alpha.astype(np.uint8)))


def _drop_opaque(alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    return None if alpha is None or alpha.min() == 255 else alpha


def _convert(codes: Codes, colour: Colour, full: int, target: NDArray[np.uint8]) -> float:
    """Write (H, W, 3) codes into `target` as sRGB; return the highest luminance found."""
    if colour.is_srgb and codes is target:
        return 1.0
    peak = 1.0
    converter = SrgbConverter(colour, full)
    strips = [slice(top, top + _STRIP_ROWS) for top in range(0, len(codes), _STRIP_ROWS)]
    if colour.is_hdr:
        peak = max(converter.measure_peak(codes[rows]) for rows in strips)
        converter = SrgbConverter(colour, full, peak)
    for rows in strips:
        target[rows] = converter.convert(codes[rows])
    return peak


def _whiten(picture: Picture) -> None:
    """Make colours under alpha 0 white, in place."""
    if picture.alpha is None:
        return
    for top in range(0, len(picture.alpha), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        hidden = picture.alpha[rows] == 0
        for layer in (picture.image, picture.own):
            if layer is not None:
                layer[rows][hidden] = 255


def _fill_missing(picture: Picture, marks: Image.Image) -> None:
    places = np.asarray(marks)
    for layer in (picture.image, picture.own):
        if layer is not None:
            fill_missing(layer, places)
    if picture.alpha is not None:
        picture.alpha[places == 2] = 255
