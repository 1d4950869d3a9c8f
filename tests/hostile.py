"""Makers of images that were made to hurt a decoder."""

import struct
import zlib

import numpy as np

from tests.helpers import encode

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one PNG chunk with its length and checksum."""
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def make_png(
    width: int, height: int, *, depth: int = 8, colour: int = 0, idat: bytes = b"", before=b""
) -> bytes:
    """Return a PNG with any header, any compressed pixels and any chunks before them."""
    header = chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG_SIGNATURE + header + before + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def make_flat_png(width: int, height: int) -> bytes:
    """Return a black 1-bit PNG: a few kilobytes for any size."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = max(1, (1 << 20) // len(row))
    pieces = []
    for start in range(0, height, rows):
        pieces.append(compressor.compress(row * min(rows, height - start)))
    idat = b"".join([*pieces, compressor.flush()])
    return make_png(width, height, depth=1, idat=idat)


def make_lying_png() -> bytes:
    """Return the 46 bytes that claim 2.1 GB of pixel data; OpenCV allocates them."""
    header = chunk(b"IHDR", struct.pack("!IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    content = PNG_SIGNATURE + header + struct.pack("!I", 0x7F4C4B4A) + b"IDAT" + b"\x78\x9c\x01\0\0"
    assert len(content) == 46
    return content


def make_text_bomb() -> bytes:
    """Return a small PNG with a comment that inflates to 200 MB."""
    text = zlib.compress(bytes(200 << 20), 9)
    idat = zlib.compress(bytes(9 * 8))
    return make_png(8, 8, idat=idat, before=chunk(b"zTXt", b"Comment\0\0" + text))


def make_broken_apng() -> bytes:
    """Return an APNG whose frame is larger than its canvas and comes without a control chunk."""
    control = chunk(b"acTL", struct.pack("!II", 0xFFFFFFFF, 0))
    frame = struct.pack("!IIIIIHHBB", 0, 70_000, 70_000, 1 << 31, 1 << 31, 0, 0, 9, 9)
    idat = zlib.compress(bytes(9 * 8))
    data = chunk(b"fdAT", struct.pack("!I", 1) + idat)
    return make_png(8, 8, idat=idat, before=control + chunk(b"fcTL", frame) + data)


def make_slow_jpeg(scans: int, side: int = 4096) -> bytes:
    """Return a grey progressive JPEG of `scans` scans without content, 40 bytes each.

    The decoder walks all blocks of the picture once a scan: milliseconds for 40 bytes.
    """

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack("!BBH", 0xFF, marker, len(data) + 2) + data

    def table(kind: int, symbol: int) -> bytes:  # one symbol, coded as the bit 0
        return segment(0xC4, bytes([kind, 1, *([0] * 15), symbol]))

    def pack(bits: str) -> bytes:
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big")
        return data.replace(b"\xff", b"\xff\0")

    blocks = (side // 8) ** 2
    run = "0" + "1" * 14  # an end-of-band run of 2^15 - 1 blocks
    empty = pack(run * (blocks // 32767 + 1))
    scan = segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0])) + empty
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([0]) + bytes([1] * 64)),
            segment(0xC2, struct.pack("!BHHBBBB", 8, side, side, 1, 1, 0x11, 0)),
            table(0x00, 0),  # DC: the difference is zero
            table(0x10, 0xE0),  # AC: the run above
            segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0])) + pack("0" * blocks),
            scan * scans,
            b"\xff\xd9",
        ]
    )


def make_slowest_jpeg() -> bytes:
    """Return a JPEG of as many scans as are read; its 268 megapixels take ten seconds."""
    return make_slow_jpeg(98, 16_384)


def make_comments(kind: str, count: int) -> bytes:
    """Return a tiny picture before whose pixels lie very many comments without a letter."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    match kind:
        case "PNG":
            idat = zlib.compress(bytes(8 * 9))
            return make_png(8, 8, idat=idat, before=chunk(b"tEXt", b"") * count)
        case "JPEG":
            data = encode(pixels, "JPEG")
            return data[:2] + b"\xff\xfe\0\2" * count + data[2:]
        case "GIF":
            data = encode(pixels, "GIF")
            start = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
            return data[:start] + b"\x21\xfe\0" * count + data[start:]
        case "WEBP":  # it says that it is longer than it is
            return (
                b"RIFF\xff\xff\xff\x7fWEBP" + encode(pixels, "WEBP")[12:] + b"EXIF\0\0\0\0" * count
            )
    data = encode(pixels, kind)
    start = int.from_bytes(data[:4])
    return data[:start] + b"\0\0\0\x08free" * count + data[start:]


def make_large_tags(count: int, size: int) -> bytes:
    """Return a TIFF of 8 x 8 with tags that all claim the same bytes, most of the file."""
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]
    tags += [(40_000 + number, 4, size // 4, 72) for number in range(count)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 72 + size) + bytes(64 + size) + directory


def make_large_webp() -> bytes:
    """Return a lossless WebP that claims the largest size there is, 16,383 x 16,383."""
    size = struct.pack("<I", 16_382 << 14 | 16_382)
    pixels = b"\x2f" + size + bytes(11)
    return b"RIFF" + struct.pack("<I4s4sI", 12 + 16, b"WEBP", b"VP8L", 16) + pixels


def claim_size(data: bytes, width: int, height: int) -> bytes:
    """Return a HEIC or AVIF whose boxes say another size; the coded pictures stay small."""
    at = data.find(b"ispe")
    assert at > 0
    while at > 0:
        data = data[: at + 8] + struct.pack("!II", width, height) + data[at + 16 :]
        at = data.find(b"ispe", at + 16)
    return data


def make_nested_boxes(depth: int) -> bytes:
    """Return a HEIC of nothing but boxes in boxes."""
    start = struct.pack("!I", 24) + b"ftypheic\0\0\0\0mif1heic"
    boxes = b""
    for _ in range(depth):
        boxes = struct.pack("!I", len(boxes) + 8) + b"dinf" + boxes
    return start + struct.pack("!I", len(boxes) + 12) + b"meta\0\0\0\0" + boxes


def make_many_items(count: int) -> bytes:
    """Return a HEIC that lists very many pictures, none of which is there."""
    start = struct.pack("!I", 24) + b"ftypheic\0\0\0\0mif1heic"
    handler = struct.pack("!I", 33) + b"hdlr" + bytes(8) + b"pict" + bytes(13)
    entries = b"".join(
        struct.pack("!I4sIHH4sx", 21, b"infe", 2 << 24, number & 0xFFFF, 0, b"hvc1")
        for number in range(count)
    )
    items = struct.pack("!I4sII", len(entries) + 16, b"iinf", 1 << 24, count) + entries
    primary = struct.pack("!I4sIH", 14, b"pitm", 0, 1)
    content = handler + primary + items
    return start + struct.pack("!I", len(content) + 12) + b"meta\0\0\0\0" + content


def make_tiff_chain(directories: int, *, is_loop: bool = False) -> bytes:
    """Return a TIFF of very many empty directories, the last one the only picture or the first."""
    size = 2 + 12 + 4
    pieces = [b"II*\0", struct.pack("<I", 8)]
    for number in range(directories):
        following = 8 + (number + 1) * size
        if number == directories - 1:
            following = 8 if is_loop else 0
        pieces.append(struct.pack("<HHHIII", 1, 256, 4, 1, 8, following))
    return b"".join(pieces)


def make_tiff_with_tags(count: int) -> bytes:
    """Return a TIFF of 8 x 8 whose directory has `count` tags, each a claim of 4 GB of text."""
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]
    tags += [(40_000 + number % 20_000, 2, 0xFFFFFFF0, 8) for number in range(count)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 64) + bytes(64) + directory


def make_exif(size: int) -> bytes:
    """Return EXIF with a text of `size` bytes, and a directory that is its own sub-directory."""
    first = struct.pack("<HHII", 0x010E, 2, size, 8 + 2 + 24 + 4)
    second = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + first + second + bytes(4) + b"x" * size


def make_exif_of_tags(count: int) -> bytes:
    """Return EXIF whose directory has `count` tags, one of them itself as its own details."""
    tags = b"".join(struct.pack("<HHII", 256 + number, 3, 1, 8) for number in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(4)


def make_greedy_profile(grid: int) -> bytes:
    """Return a profile of three colours that claims a table of `grid`^3 entries and has none."""
    lut = (
        b"mft2"
        + bytes(4)
        + bytes([3, 3, grid, 0])
        + struct.pack("!9i", *([65536, 0, 0, 0] * 3)[:9])
    )
    lut += struct.pack("!HH", 4096, 4096) + bytes(64)
    table = struct.pack("!I4sII", 1, b"A2B0", 144, len(lut))
    size = 144 + len(lut)
    header = struct.pack("!I4xI", size, 0x02400000) + b"mntrRGB Lab "
    header = header.ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack("!3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + lut
