"""PNG apart from its pixels: what damage beside them is dropped, and which colour is described.

Everything follows the PNG specification (third edition). Pillow refuses a file for any chunk that
it cannot make sense of, so it is given only the ones that pixels need.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from service.media.colour.description import (
    BT709,
    SRGB,
    Chromaticities,
    Colour,
    Curve,
    Transfer,
    matrix_to_xyz,
)
from service.media.image.types import TooComplexImage, UndecodableImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# What orientation and the like may be told by; a text of more than this is no such thing.
_EXIF_TEXT, _XMP_TEXT = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"
_MAX_TEXT_BYTES = 1 << 20
_MAX_ICC_BYTES = 4 << 20
_SRGB_GAMMA = 1 / 2.2  # what gAMA says of sRGB; where nothing else is said, it means that
_RGB, _PALETTE = 2, 3
_TRUE_COLOUR = (_RGB, _PALETTE, 6)
# A picture of 25 MB in the smallest pieces that encoders write has 6,000.
MAX_CHUNKS = 65_536
_FRAME_BYTES = 26  # of the chunk that begins a frame


@dataclass(frozen=True)
class PngFile:
    """A PNG that Pillow reads: `data`; `colour` and `icc` as described, at most one of them.

    `bits` is the depth, `key` the value that is transparent; `is_whole` says that the last chunk is
    there, `dropped` names damaged ones; `frames` of an animation are counted, not believed.
    """

    data: bytes | bytearray
    colour: Colour = SRGB
    icc: bytes = b""
    exif: bytes = b""
    bits: int = 8
    key: bytes = b""
    is_whole: bool = True
    dropped: tuple[str, ...] = ()
    frames: int = 0

    @property
    def is_interlaced(self) -> bool:
        return len(self.data) > 28 and self.data[28] != 0

    @property
    def needs_all_bits(self) -> bool:
        """Whether samples of 16 bits are compared with a key, or converted to other colours."""
        is_keyed = bool(self.key) and self.data[25] == _RGB
        return self.bits == 16 and (is_keyed or not (self.colour.is_srgb or self.key))

    def drop_key(self) -> bytes:
        """Return the file without the value that is transparent."""
        kept = (
            bytes(memoryview(self.data)[start:end])
            for kind, start, end in _walk(self.data)
            if kind != b"tRNS"
        )
        return SIGNATURE + b"".join(kept)


def mend_png(data: bytes | bytearray) -> PngFile:
    """Return the file without damaged and needless chunks, and what they said.

    Raises TooComplexImage, UndecodableImage for pixels in another coding or without a palette.
    """
    kept, told = [SIGNATURE], dict[bytes, bytes]()
    dropped: list[str] = []
    is_whole, has_palette, key, frames = False, False, b"", 0
    for kind, start, end in _walk(data):
        content = memoryview(data)[start + 8 : end - 4]
        is_sound = _is_sound(data, start, end)
        if kind == b"CgBI":
            raise UndecodableImage("a coding of PNG that is not read: that of iPhone apps (CgBI)")
        if kind == b"IDAT" and data[25] == _PALETTE and not has_palette:
            raise UndecodableImage("the PNG has no palette, which its pixels need")
        has_palette = has_palette or kind == b"PLTE"
        frames += kind == b"fcTL" and is_sound and len(content) == _FRAME_BYTES
        if kind == b"tRNS" and not (is_sound and _has_key(content, data)):
            dropped.append("tRNS")
        elif kind in _PIXELS:
            kept.append(bytes(memoryview(data)[start:end]))
            is_whole, key = kind == b"IEND", bytes(content) if kind == b"tRNS" else key
        elif not is_sound or len(content) > _MAX_ICC_BYTES:
            dropped.append(kind.decode("latin-1"))
        elif kind in (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf"):
            told.setdefault(kind, bytes(content))
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and _is_needed(content):
            kept.append(bytes(memoryview(data)[start:end]))
        if is_whole:
            break
    depth = data[24] if len(data) > 24 else 8
    is_grey = len(data) > 25 and data[25] not in _TRUE_COLOUR
    colour, icc = _describe(told, is_grey)
    exif = told.get(b"eXIf", b"")
    mended = b"".join(kept) if is_whole else _join_cut(data, kept)
    return PngFile(mended, colour, icc, exif, depth, key, is_whole, tuple(dropped), frames)


def _walk(data: bytes | bytearray) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of the chunks that are whole; raises TooComplexImage."""
    at, count = len(SIGNATURE), 0
    while at + 12 <= len(data):
        if (count := count + 1) > MAX_CHUNKS:
            raise TooComplexImage("PNG", "chunks", MAX_CHUNKS, count)
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield bytes(data[at + 4 : at + 8]), at, end
        at = end


def _is_sound(data: bytes | bytearray, start: int, end: int) -> bool:
    checksum = int.from_bytes(data[end - 4 : end], "big")
    return zlib.crc32(memoryview(data)[start + 4 : end - 4]) == checksum


def _join_cut(data: bytes | bytearray, kept: list[bytes]) -> bytes:
    """Return the chunks of a file that ends early, its last one closed where it is pixels."""
    at = len(SIGNATURE)
    for _, _, end in _walk(data):
        at = end
    rest = bytes(data[at:])
    if rest[4:8] == b"IDAT":
        content = rest[4 : 8 + int.from_bytes(rest[:4], "big")]
        checksum = struct.pack("!I", zlib.crc32(content))
        kept = [*kept, struct.pack("!I", len(content) - 4) + content + checksum]
    return b"".join([*kept, bytes(4) + b"IEND" + struct.pack("!I", zlib.crc32(b"IEND"))])


def _has_key(content: memoryview, data: bytes | bytearray) -> bool:
    """Say whether a tRNS chunk fits the colour type of its picture."""
    sizes = {0: range(2, 3), 2: range(6, 7), 3: range(257)}
    return len(data) > 25 and len(content) in sizes.get(data[25], ())


def _is_needed(text: memoryview) -> bool:
    start = bytes(text[:24])
    return len(text) <= _MAX_TEXT_BYTES and start.startswith((_EXIF_TEXT, _XMP_TEXT))


def _describe(told: dict[bytes, bytes], is_grey: bool) -> tuple[Colour, bytes]:
    """Return the colour or the ICC profile: cICP over iCCP over sRGB over gAMA and cHRM."""
    codes = told.get(b"cICP", b"")
    if len(codes) == 4 and codes[2] == 0:
        return Colour.from_codes(codes[0], codes[1], 0, bool(codes[3])), b""
    if icc := read_profile(told.get(b"iCCP", b"")):
        return SRGB, icc
    if b"sRGB" in told:
        return SRGB, b""
    primaries = _read_chromaticities(told.get(b"cHRM", b""))
    if is_grey:  # has no primaries, and its white is white
        primaries = BT709
    gamma = _read_gamma(told.get(b"gAMA", b""))
    is_srgb = Colour(primaries).is_srgb
    if gamma is None or (is_srgb and abs(gamma / _SRGB_GAMMA - 1) < 0.02):
        return Colour(primaries), b""
    return Colour(primaries, Transfer(Curve.GAMMA, 1 / gamma)), b""


def read_profile(content: bytes) -> bytes:
    """Return the profile of an iCCP chunk, empty if it is damaged or unreasonably large."""
    _, found, packed = content.partition(b"\0")
    if not found or packed[:1] != b"\0":
        return b""
    try:
        stream = zlib.decompressobj()
        icc = stream.decompress(packed[1:], _MAX_ICC_BYTES)
    except zlib.error:
        return b""
    return icc if stream.eof else b""


def _read_chromaticities(content: bytes) -> Chromaticities:
    if len(content) != 32:
        return BT709
    white_x, white_y, *rest = (value / 100_000 for value in struct.unpack("!8I", content))
    primaries = (rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], white_x, white_y)
    try:
        matrix_to_xyz(primaries)
    except ValueError:
        return BT709
    return primaries


def _read_gamma(content: bytes) -> float | None:
    if len(content) != 4:
        return None
    gamma = int.from_bytes(content, "big") / 100_000
    return gamma if 0.1 <= gamma <= 10 else None


def count_rows(data: bytes | bytearray) -> int:
    """Return how many whole rows the pixels of a PNG hold; 0 for an interlaced one.

    Rows of a chunk with a wrong checksum, and those behind it, count only where the checksum of all
    pixels is right.
    """
    height, row = _measure_rows(data)
    if data[28]:
        return 0
    stream, total = zlib.decompressobj(), 0
    sound: int | None = None  # bytes before the first damaged chunk
    for kind, start, end in _walk(data):
        if kind != b"IDAT":
            continue
        rest = data[start + 8 : end - 4]
        if sound is None and not _is_sound(data, start, end):
            sound = total
        try:
            while rest:
                total += len(stream.decompress(rest, 1 << 20))
                rest = stream.unconsumed_tail
        except zlib.error:
            break
    if sound is not None and not stream.eof:
        total = sound
    return int(min(height, total // row))


def _measure_rows(data: bytes | bytearray) -> tuple[int, int]:
    """Return how many rows a PNG has that is not interlaced, and the bytes of one."""
    width, height, depth, colour = struct.unpack("!IIBB", data[16:26])
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    return height, 1 + (width * depth * samples + 7) // 8


def fill_up(data: bytes | bytearray, rows: int) -> bytes:
    """Return a PNG of which so many rows are there with rows of zeros for the others.

    Only its pixels are left.
    """
    height, row = _measure_rows(data)
    unpacking, packing = zlib.decompressobj(), zlib.compressobj(1)
    left, packed = rows * row, list[bytes]()
    for kind, start, end in _walk(data):
        rest = bytes(data[start + 8 : end - 4]) if kind == b"IDAT" else b""
        while rest and left:
            pixels = unpacking.decompress(rest, min(left, 1 << 20))
            rest, left = unpacking.unconsumed_tail, left - len(pixels)
            packed.append(packing.compress(pixels))
    packed += [packing.compress(bytes(row)) for _ in range(height - rows)]
    pixels = b"".join([*packed, packing.flush()])
    chunks = [(b"IHDR", bytes(data[16:29])), (b"IDAT", pixels), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack("!I", len(content))
        + kind
        + content
        + struct.pack("!I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
