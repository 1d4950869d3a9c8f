"""JPEG apart from its pixels: damage beside them is dropped, an early end is found.

Pillow and libjpeg refuse a file for a segment of an application that they cannot make sense of, so
they are given only the ones that are needed and whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_SOS, _EOI, _COMMENT = 0xDA, 0xD9, 0xFE
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_STANDALONE = (0x01, *range(0xD0, 0xD8))
END = b"\xff\xd9"
_ICC, _ADOBE = b"ICC_PROFILE\0", b"Adobe"
_EXIF, _XMP = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class JpegFile:
    """A JPEG that Pillow reads: `data`, ending in an end marker.

    `is_whole` says that the file has one itself, `has_scans` that it is progressive and its first
    scan is whole; `dropped` names damaged segments.
    """

    data: bytes | bytearray
    is_whole: bool = True
    is_progressive: bool = False
    has_scans: bool = False
    dropped: tuple[str, ...] = ()


def mend_jpeg(data: bytes | bytearray) -> JpegFile:
    """Return the file without damaged and needless segments, closed by an end marker."""
    kept, dropped = [b"\xff\xd8"], list[str]()
    is_progressive, pixels = False, len(data)
    for marker, start, end in _walk(data):
        content = bytes(data[start + 4 : end])
        if marker == _SOS:
            pixels = start
            break
        is_progressive = is_progressive or marker in _PROGRESSIVE
        if marker == _COMMENT or 0xE0 <= marker <= 0xEF:
            sound = _judge(marker, content)
            if sound is False:
                dropped.append(f"APP{marker - 0xE0}")
            if not sound:
                continue
        kept.append(bytes(data[start:end]))
    is_whole = data.find(END, pixels) >= 0
    kept.append(bytes(data[pixels:]))
    if not is_whole:
        # A marker cut in half would swallow the end marker.
        kept[-1] = kept[-1].rstrip(b"\xff") + END
    has_scans = is_progressive and kept[-1].count(b"\xff\xda") > 1
    return JpegFile(b"".join(kept), is_whole, is_progressive, has_scans, tuple(dropped))


def add_garbage(data: bytes) -> bytes:
    """Return a mended JPEG with noise before its end: pixels that this changes were not there."""
    return data[: data.rindex(END)] + b"\x55\xa3\x1c\x96\x5a" * 200 + END


def _walk(data: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the segments up to the first scan."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # rubbish between segments; libjpeg skips it, too
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _STANDALONE or marker == 0:
            at += 2
            continue
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        if marker == _SOS:
            yield marker, at, end
            return
        if end > len(data):
            return
        yield marker, at, end
        at = end


def _judge(marker: int, content: bytes) -> bool | None:
    """Say whether a segment is needed and whole; None: it is not needed."""
    match marker:
        case 0xE0:
            return len(content) >= 14 if content.startswith(b"JFIF\0") else None
        case 0xE1:
            return True if content.startswith((_EXIF, _XMP)) else None
        case 0xE2:
            if not content.startswith(_ICC[:11]):
                return None
            return len(content) > 14 and 1 <= content[12] <= content[13]
        case 0xEE:
            return len(content) >= 12 if content.startswith(_ADOBE) else None
    return None
