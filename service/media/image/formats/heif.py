"""HEIF and AVIF: colour by codes, more than 8 bits, files that strict readers refuse."""

import io

import numpy as np
import pillow_heif

from service.media.colour.description import SRGB, UNREAD_MATRICES
from service.media.image.formats.avif import AvifPixels, decode_avif, open_avif
from service.media.image.formats.boxes import (
    check_boxes,
    find_crop,
    find_matrix,
    find_nclx,
    has_alpha_item,
)
from service.media.image.source import Pixels, Source, open_file, take_file
from service.media.image.types import UndecodableImage

_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La")  # of Pillow; the small a: premultiplied


def open_heif(data: bytes | bytearray) -> Source:
    """Read the header; raises TooComplexImage and what Pillow raises."""
    check_boxes(data)
    described, matrix = find_nclx(data), find_matrix(data)
    if matrix in UNREAD_MATRICES:
        name = UNREAD_MATRICES[matrix]
        raise UndecodableImage(f"a coding of colours that is not read: the matrix {name}")
    try:
        file = open_file(data, "AVIF", "HEIF")
    except (OSError, SyntaxError, ValueError) as error:
        avif = open_avif(data)  # what strict readers refuse
        if avif is None:
            raise error
        return _crop(_from_avif(avif), data)
    source = take_file(file)
    if file.mode not in _WITH_ALPHA and has_alpha_item(data):
        source.notes.append("alpha that is not linked to the picture was left out")
    if "icc_profile" in file.info:
        return _crop(source, data)
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
    return _crop(source, data)


def _crop(source: Source, data: bytes | bytearray) -> Source:
    """Cut off what the file says is not part of an AVIF; libheif does it by itself."""
    box = find_crop(data, source.size) if source.format == "AVIF" else None
    if box is None:
        return source
    left, top, right, bottom = box
    load = source.load

    def load_part() -> Pixels:
        pixels = load()
        if pixels.deep is not None:
            pixels.deep = pixels.deep[top:bottom, left:right]
        if pixels.image is not None:
            pixels.image = pixels.image.crop(box)
        return pixels

    source.size, source.load = (right - left, bottom - top), load_part
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
