"""Why an image is not read, in words: damaged, cut short, or in a coding that is not read."""

from service.media.image.formats.bmp import ends_early
from service.media.image.formats.boxes import find_coding, is_cut
from service.media.image.formats.jpeg_scans import MAX_SEGMENTS
from service.media.image.formats.tiff import find_page

_JPEG_CODINGS = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xCB: "lossless, arithmetic",
    0xCD: "hierarchical, arithmetic",
    0xCE: "hierarchical progressive, arithmetic",
    0xCF: "hierarchical lossless, arithmetic",
}
_HEIF_CODINGS = {
    b"avc1": "H.264",
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"jxl ": "JPEG XL",
    b"unci": "uncompressed",
    b"vvc1": "VVC",
    b"evc1": "EVC",
    b"lhv1": "layered HEVC",
    b"iovl": "an overlay of pictures",
    b"tili": "tiles",
}


def explain_header(data: bytes | bytearray, format: str) -> str:
    """Return why the header of a file is not understood."""
    if format == "HEIF" and b"avif" in data[8:64]:
        format = "AVIF"
    if _ends_early(data, format):
        return f"the {format} is cut short: it ends before its pixels do"
    if coding := _find_unread_coding(data, format):
        return f"a coding of {format} that is not read: {coding}"
    return f"the header of the {format} is damaged"


def explain_pixels(data: bytes | bytearray, format: str) -> str:
    """Return why the pixels of a file cannot be decoded, whose header is understood."""
    if _ends_early(data, format):
        return f"the {format} is cut short: it ends before its pixels do"
    page = find_page(data) if format == "TIFF" else None
    is_known = format == "TIFF" and not (page and page.has_unread_pixels)
    if not is_known and (coding := _find_unread_coding(data, format)):
        return f"a coding of {format} that is not read: {coding}"
    return f"the pixels of the {format} are damaged or cut short"


def _find_unread_coding(data: bytes | bytearray, format: str) -> str:
    """Return the name of a coding that the service does not read, empty if it is none of these."""
    if format == "TIFF":
        page = find_page(data)
        return page.layout if page else ""
    if format in ("AVIF", "HEIF"):
        coding = find_coding(data)
        return _HEIF_CODINGS.get(coding, "")
    if format == "JPEG":
        return _find_jpeg_coding(data)
    if format == "BMP" and len(data) >= 34:
        number, bits = data[30], int.from_bytes(data[28:30], "little")
        if number == 3 and bits in (16, 32):
            return "bit fields with masks that overlap or have holes"
        if bits not in (1, 4, 8, 16, 24, 32) or number > 6:
            return f"{bits} bits, compression {number}"
    return ""


def _find_jpeg_coding(data: bytes | bytearray) -> str:
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker in _JPEG_CODINGS:
            return _JPEG_CODINGS[marker]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return f"{data[at + 4]} bits a sample" if data[at + 4] != 8 else ""
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return ""


def _ends_early(data: bytes | bytearray, format: str) -> bool:
    if format == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if format in ("AVIF", "HEIF"):
        return is_cut(data)
    if format == "TIFF":
        page = find_page(data)
        return page is None or page.is_cut or page.data_end > len(data)
    if format == "BMP":
        return len(data) < 54 or ends_early(data)
    return False
