"""BMP with bit fields, alpha or a profile: what Pillow refuses or leaves out."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.media.colour import description
from service.media.colour.description import BT709, D65, SRGB, Colour, Curve, Transfer
from service.media.image.types import UndecodableImage

RLE8, RLE4 = 1, 2
_RGB, _BITFIELDS, _ALPHABITFIELDS = 0, 3, 6
_NAMES = {RLE8: "RLE8", RLE4: "RLE4", 4: "JPEG", 5: "PNG"}
_OS2_NAMES = {3: "Huffman 1D", 4: "RLE24"}
_OS2, _INFO, _OS2_LONG = 16, 40, 64
_V2, _V3, _V4, _V5 = 52, 56, 108, 124
_CALIBRATED = 0
_MOST_GAMMA, _SAME_GAMMA, _ROUNDING = 10, 0.02, 0.01
_EMBEDDED = 0x4D424544  # "MBED"
_STRIP_PIXELS = 1 << 20


@dataclass(frozen=True)
class BmpFile:
    """What the header of a BMP says; `masks` of red, green, blue and alpha, where it has any."""

    width: int
    height: int
    is_upside_down: bool
    bits: int
    masks: tuple[int, int, int, int] | None
    offset: int
    icc: bytes = b""
    colour: Colour = SRGB
    compression: int = _RGB

    @property
    def has_runs(self) -> bool:
        return self.compression in (RLE8, RLE4)

    @property
    def stride(self) -> int:
        """Bytes of a row."""
        return (self.width * self.bits + 31) // 32 * 4


def read_bmp(data: bytes | bytearray) -> BmpFile | None:
    """Return the header, None for the old one of 12 bytes or one that is too short.

    Raises UndecodableImage for a coding that is not read.
    """
    size = int.from_bytes(data[14:18], "little")
    if size < 40 or len(data) < 14 + size:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if size == _OS2_LONG and compression in _OS2_NAMES:
        raise UndecodableImage(f"a coding of BMP that is not read: {_OS2_NAMES[compression]}")
    if compression in (4, 5):
        raise UndecodableImage(f"a coding of BMP that is not read: {_NAMES[compression]}")
    masks = None
    if compression in (_BITFIELDS, _ALPHABITFIELDS) and bits in (16, 32):
        has_alpha = size >= _V3 or compression == _ALPHABITFIELDS
        count = 4 if has_alpha else 3
        if len(data) >= 54 + 4 * count:
            found = struct.unpack_from(f"<{count}I", data, 54)
            masks = (found[0], found[1], found[2], found[3] if has_alpha else 0)
    elif compression == _RGB and bits == 32 and size >= _V4:
        masks = (0xFF0000, 0xFF00, 0xFF, struct.unpack_from("<I", data, 66)[0])
    offset = int.from_bytes(data[10:14], "little")
    icc, colour = _read_profile(data, size), _read_colour(data, size)
    return BmpFile(width, abs(height), height > 0, bits, masks, offset, icc, colour, compression)


def mend_bmp(data: bytes | bytearray) -> bytes | bytearray:
    """Return a file that Pillow reads: a short header of OS/2 filled up, no colours that no pixel
    can name."""
    size = int.from_bytes(data[14:18], "little")
    if _OS2 <= size < _INFO and len(data) > 14 + size:
        head = struct.pack("<I", _INFO) + bytes(data[18 : 14 + size]) + bytes(_INFO - size)
        offset = int.from_bytes(data[10:14], "little") + _INFO - size
        data = bytes(data[:10]) + struct.pack("<I", offset) + head + bytes(data[14 + size :])
    if len(data) > 54 and data[28] <= 8 and int.from_bytes(data[46:50], "little") > 1 << data[28]:
        data = bytes(data[:46]) + struct.pack("<I", 1 << data[28]) + bytes(data[50:])
    return data


def ends_early(data: bytes | bytearray) -> bool:
    """Say whether a BMP without compression ends before its last row, others before their end."""
    header = read_bmp(data)
    if header is None or int.from_bytes(data[30:34], "little") in _NAMES:
        return len(data) < int.from_bytes(data[2:6], "little")
    return len(data) < header.offset + header.stride * header.height


def _read_profile(data: bytes | bytearray, size: int) -> bytes:
    if size < _V5 or struct.unpack_from("<I", data, 70)[0] != _EMBEDDED:
        return b""
    start, length = struct.unpack_from("<II", data, 126)
    return bytes(data[14 + start : 14 + start + length])


def _read_colour(data: bytes | bytearray, size: int) -> Colour:
    """Return what a header of version 4 or 5 says by numbers: XYZ of the primaries, and gammas.

    White is what the primaries add up to, or D65 where they come without their weights. Fields that
    make no sense count as none, as most programs leave them at 0. Of three gammas the one of green
    counts; one below 1 is that of the encoder.
    """
    if size < _V4 or struct.unpack_from("<I", data, 70)[0] != _CALIBRATED:
        return SRGB
    numbers = np.array(struct.unpack_from("<9I", data, 74), np.float64).reshape(3, 3) / (1 << 30)
    _, gamma, _ = (value / 65536 for value in struct.unpack_from("<3I", data, 110))
    gamma = 1 / gamma if 0 < gamma < 1 else gamma
    is_scaled = np.abs(numbers.sum(1) - 1).max() > _ROUNDING  # else they are x, y and z
    white = numbers.sum(0) if is_scaled else np.array([*D65, 1 - sum(D65)])
    corners = np.vstack([numbers, white])
    sums = corners.sum(1, keepdims=True)
    if not (sums > 0).all() or not 1 <= gamma <= _MOST_GAMMA:
        return SRGB
    x, y = (corners / sums)[:, :2].T.tolist()
    primaries: description.Chromaticities = x[0], y[0], x[1], y[1], x[2], y[2], x[3], y[3]
    try:
        description.matrix_to_xyz(primaries)
    except ValueError:
        return SRGB
    is_srgb = abs(gamma / 2.2 - 1) < _SAME_GAMMA and Colour(primaries).has_primaries(BT709)
    return SRGB if is_srgb else Colour(primaries, Transfer(Curve.GAMMA, gamma))


def decode_fields(data: bytes | bytearray, header: BmpFile) -> NDArray[np.uint8]:
    """Return (H, W, 3 or 4) uint8 of pixels in bit fields; alpha that is 0 everywhere is none.

    Raises ValueError where pixels are missing or masks are no fields.
    """
    assert header.masks is not None
    kind = np.dtype("<u2" if header.bits == 16 else "<u4")
    rows = np.frombuffer(data, np.uint8, header.stride * header.height, header.offset)
    values = rows.reshape(header.height, header.stride).view(kind)[:, : header.width]
    if header.is_upside_down:
        values = values[::-1]
    masks = header.masks if header.masks[3] else header.masks[:3]
    if sum(masks) != (masks[0] | masks[1] | masks[2] | (masks[3] if len(masks) > 3 else 0)):
        raise ValueError("bit masks that overlap")
    pixels = np.zeros((header.height, header.width, len(masks)), np.uint8)
    step = max(1, _STRIP_PIXELS // header.width)
    for number, mask in enumerate(masks):
        shift = max(0, (mask & -mask).bit_length() - 1)
        full = mask >> shift
        if full & (full + 1):
            raise ValueError("a bit mask with holes")
        for top in range(0, header.height, step):
            levels = ((values[top : top + step] & mask) >> shift) * np.float32(255 / max(1, full))
            pixels[top : top + step, :, number] = levels + np.float32(0.5)
    is_opaque = len(masks) == 4 and not pixels[:, :, 3].any()
    return np.ascontiguousarray(pixels[:, :, :3]) if is_opaque else pixels
