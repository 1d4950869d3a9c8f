"""JPEG apart from its pixels: damage beside them is dropped, an early end is found.

Pillow and libjpeg refuse a file for a segment of an application that they cannot make sense of, so
they are given only the ones that are needed and whole.
"""

import re
from dataclasses import dataclass

from service.media.image.formats.jpeg_scans import EOI, SOF, Scans, read_scans, walk_segments

_SOS, _COMMENT = 0xDA, 0xFE
END, _SCAN = b"\xff\xd9", b"\xff\xda"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_STRAY = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # after which no more is decoded
_DNL = b"\xff\xdc\0\4"  # and the height of the picture
_ICC, _ADOBE = b"ICC_PROFILE\0", b"Adobe"
_EXIF, _XMP = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class JpegFile:
    """A JPEG that Pillow reads: `data`, one picture, ending in an end marker; see Scans.

    `dropped` names damaged segments.
    """

    data: bytes | bytearray
    scans: Scans
    dropped: tuple[str, ...] = ()


def mend_jpeg(data: bytes | bytearray) -> JpegFile:
    """Return the first picture without damaged and needless segments, closed by an end marker.

    Raises TooComplexImage.
    """
    kept, dropped = [b"\xff\xd8"], list[str]()
    profile: list[tuple[int, int]] = []  # the number of each piece, and of how many
    scans = read_scans(data)
    pixels = scans.end
    for marker, start, end in walk_segments(data):
        if marker in (_SOS, EOI):
            pixels = start
            break
        content = bytes(data[start + 4 : end])
        if marker == _COMMENT or 0xE0 <= marker <= 0xEF:
            sound = _judge(marker, content)
            if sound is False:
                dropped.append(f"APP{marker - 0xE0}")
            if not sound:
                continue
            if content.startswith(_ICC):
                profile.append((content[12], content[13]))
        kept.append(_state_height(data, start, end) if marker in SOF else bytes(data[start:end]))
    if profile and sorted(profile) != [(n + 1, len(profile)) for n in range(len(profile))]:
        dropped.append("a profile of which pieces are missing")
    kept.append(bytes(data[pixels : scans.end]))
    if not scans.is_closed:
        # A marker cut in half would swallow the end marker.
        kept[-1] = kept[-1].rstrip(b"\xff") + END
    return JpegFile(b"".join(kept), scans, tuple(dropped))


def _state_height(data: bytes | bytearray, start: int, end: int) -> bytes:
    """Return the header of the pixels; with the height that comes behind the first scan (B.2.5)."""
    header = bytearray(data[start:end])
    if header[5:7] == bytes(2) and (place := data.find(_DNL, end)) > 0:
        header[5:7] = data[place + 4 : place + 6]
    return bytes(header)


def add_garbage(jpeg: JpegFile) -> bytes:
    """Return a mended JPEG with noise where its data ends: pixels that this changes were not there.

    It ends with its end marker, or before it with a marker that has no place among pixels.
    """
    data = bytes(jpeg.data)
    end = data.rindex(END)
    if not jpeg.scans.is_progressive:
        last = data.rindex(_SCAN)
        pixels = last + 2 + int.from_bytes(data[last + 2 : last + 4])
        stray = _STRAY.search(data, pixels)
        # Behind a restart decoding begins anew.
        end = stray.start() if stray and not _RESTART.search(data, pixels) else end
    return data[:end] + b"\x55\xa3\x1c\x96\x5a" * 200 + data[end:]


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
