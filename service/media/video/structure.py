"""Places in the middle of a clip's file where its structure is broken (decoder child).

The library looks for the next piece that makes sense and says nothing of what lay between: pictures
and audio that nobody counts. MP4 lists all of them, so what is missing there is counted by itself.
"""

import contextlib
import os
import re
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, cast

from service.media.video.container.elements import (
    CLUSTER,
    CUES,
    EBML,
    SEGMENT,
    count_wrong_checksums,
    read_element,
)
from service.media.video.transport import count_lost_places

_READS_A_PULSE, _MOST = 1024, 100
_MAX_PIECES = 1 << 21  # of hours; each is a read
_BLOCK = 1 << 20
_HEAD_BYTES, _LEAST_HEAD_BYTES = 13, 4
_FLV_HEAD, _FLV_TAGS = b"FLV\x01", b"\x08\x09\x12"
_AVI_ENTERED = (b"RIFF", b"LIST")
_AVI_CHUNK = re.compile(
    rb"\d\d(?:dc|db|wb|pc|tx|iv|sb)|ix\d\d|JUNK|idx1|LIST|RIFF|rec |[a-zA-Z]{4}"
)
_AVI_NEXT = re.compile(rb"\d\d(?:dc|db|wb)")
# Matroska (RFC 9559): what lies in a segment and in its clusters.
_MKV_ENTERED = (SEGMENT, CLUSTER)
_MKV_NEXT = re.compile(rb"\x1f\x43\xb6\x75")
_MKV_KNOWN = frozenset(
    (*(EBML, SEGMENT, CLUSTER, CUES, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1941A469),)
    + (0x1043A770, 0x1254C367, 0xEC, 0xBF, 0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854)
)
_GIF_HIDDEN, _MAX_PIXEL_BYTES = re.compile(rb"\0\x21\xf9\x04.{4}\0\x2c", re.DOTALL), 1 << 24
_GIF_IMAGE = 0x2C
_GIF_MORE = re.compile(rb"\x21\xf9\x04")  # what comes before a frame


class _Broken(Exception):
    """The structure ends before `position`, from which on the next piece is looked for.

    `is_inside`: what should come there belongs to the clip.
    """

    def __init__(self, position: int, *, is_inside: bool) -> None:
        super().__init__(position)
        self.position, self.is_inside = position + 1, is_inside


class _Pulsing:
    """A file that is read for long: says from time to time that it goes on."""

    def __init__(self, file: BinaryIO, on_progress: Callable[[], object]) -> None:
        self.seek, self._read, self._on_progress = file.seek, file.read, on_progress
        self._reads = 0

    def read(self, size: int) -> bytes:
        self._reads += 1
        if size >= _BLOCK or self._reads % _READS_A_PULSE == 0:
            self._on_progress()
        return self._read(size)


def count_broken_places(
    source: BinaryIO, format: str, on_progress: Callable[[], object] = lambda: None
) -> int:
    """Return at how many places of a file the pieces do not follow one another.

    A piece that goes on behind the end of the file is no such place, nor is rubbish behind the
    clip; more than _MOST places are not counted. `format` is FFmpeg's name; MP4 is not looked into.
    """
    file = cast(BinaryIO, _Pulsing(source, on_progress))
    if format == "mpegts":
        return count_lost_places(file)
    name = next((name for name in _STEPS if format.startswith(name)), None)
    if name is None:
        return 0
    wrong = count_wrong_checksums(file) if name == "matroska" else 0
    step, following = _STEPS[name]
    file_bytes = file.seek(0, os.SEEK_END)
    position = places = 0
    while places < _MOST:
        try:
            _walk(file, _Place(position, file_bytes), step)
        except _Broken as broken:
            found = _find(file, following, broken.position, file_bytes)
            if found is None:
                places += broken.is_inside
                break
            places, position = places + 1, found
        else:
            break
    return max(places, wrong)


def count_images(file: BinaryIO) -> int:
    """Return how many pictures a GIF has up to where it is broken."""
    place, images = _Place(0, file.seek(0, os.SEEK_END)), 0
    with contextlib.suppress(_Broken):
        for _ in range(_MAX_PIECES):
            file.seek(place.position)
            head = file.read(_HEAD_BYTES)
            if len(head) < _LEAST_HEAD_BYTES:
                break
            images += head[0] == _GIF_IMAGE
            place = _step_gif(file, place, head)
    return images


def _find(file: BinaryIO, following: re.Pattern[bytes], start: int, end: int) -> int | None:
    """Return where something lies behind a position, None where nothing does."""
    while start < end:
        file.seek(start)
        data = file.read(_BLOCK)
        found = following.search(data)
        if found is not None:
            return start + found.start()
        start += max(len(data) - 8, 1) if len(data) == _BLOCK else len(data)
        if not data:
            return None
    return None


class _Place(NamedTuple):
    """Where a piece begins, and the end of the clip as far as it is known."""

    position: int
    clip_end: int


def _walk(file: BinaryIO, place: _Place, step: "_Step") -> None:
    """Follow the pieces to the end of the file; raises _Broken."""
    for _ in range(_MAX_PIECES):
        file.seek(place.position)
        head = file.read(_HEAD_BYTES)
        if len(head) < _LEAST_HEAD_BYTES:
            return
        place = step(file, place, head)


def _step_flv(file: BinaryIO, place: _Place, head: bytes) -> _Place:
    if head.startswith(_FLV_HEAD):
        return place._replace(position=place.position + int.from_bytes(head[5:9]) + 4)
    size = 11 + int.from_bytes(head[1:4])
    file.seek(place.position + size)
    tail = file.read(4)
    is_whole = head[0] & 0x1F in _FLV_TAGS and head[8:11] == bytes(3)
    # Some programs write the size without the head of the tag, or none.
    if not is_whole or (len(tail) == 4 and int.from_bytes(tail) not in (size, size - 11, 0)):
        raise _Broken(place.position, is_inside=False)
    return place._replace(position=place.position + size + 4)


def _step_avi(file: BinaryIO, place: _Place, head: bytes) -> _Place:
    position, clip_end = place
    if not _AVI_CHUNK.fullmatch(head[:4]) and position:
        # Some programs do not fill up a chunk of odd length.
        file.seek(position - 1)
        unfilled = file.read(_HEAD_BYTES)
        if _AVI_CHUNK.fullmatch(unfilled[:4]):
            position, head = position - 1, unfilled
    kind, size = head[:4], int.from_bytes(head[4:8], "little")
    if not _AVI_CHUNK.fullmatch(kind):
        raise _Broken(position, is_inside=position < clip_end)
    clip_end = position + 8 + size if kind == b"RIFF" else clip_end
    return _Place(position + (12 if kind in _AVI_ENTERED else 8 + size + size % 2), clip_end)


def _step_mkv(file: BinaryIO, place: _Place, head: bytes) -> _Place:
    position, clip_end = place
    element = read_element(head)
    if element is None or element[0] not in _MKV_KNOWN:
        raise _Broken(position, is_inside=position < clip_end)
    name, content, size = element
    clip_end = position + content + size if name == SEGMENT else clip_end
    return _Place(position + content + (0 if name in _MKV_ENTERED else size), clip_end)


def _step_gif(file: BinaryIO, place: _Place, head: bytes) -> _Place:
    position, clip_end = place
    if head.startswith(b"GIF8"):
        return place._replace(position=position + 13 + 3 * count_colours(head[10:11]))
    if head[0] == 0x21:
        return place._replace(position=skip_blocks(file, position + 2))
    if head[0] == _GIF_IMAGE:
        start = position + 11 + 3 * count_colours(head[9:10])
        end = skip_blocks(file, start)
        _check_pixels(file, start, end)
        return place._replace(position=end)
    if head[0] in b";\0":
        return _Place(position + 1, min(position, clip_end))
    raise _Broken(position, is_inside=position < clip_end)


def _check_pixels(file: BinaryIO, start: int, end: int) -> None:
    """Raise _Broken for the pixels of a frame that swallow the head of the next one."""
    file.seek(start)
    hidden = _GIF_HIDDEN.search(file.read(min(end - start, _MAX_PIXEL_BYTES)))
    if hidden is not None:
        raise _Broken(start + hidden.start(), is_inside=True)


def count_colours(flags: bytes) -> int:
    """Return the colours of the palette of a GIF that the flags announce."""
    return 2 << (flags[0] & 7) if flags and flags[0] & 0x80 else 0


def skip_blocks(file: BinaryIO, position: int) -> int:
    """Return where the blocks of a GIF end that begin at a position."""
    while True:
        file.seek(position)
        size = file.read(1)
        position += 1
        if not size or not size[0]:
            return position
        position += size[0]


_Step = Callable[[BinaryIO, _Place, bytes], _Place]
_STEPS: dict[str, tuple[_Step, re.Pattern[bytes]]] = {
    "matroska": (_step_mkv, _MKV_NEXT),
    "avi": (_step_avi, _AVI_NEXT),
    "flv": (_step_flv, re.compile(rb"[\x08\x09\x12].{7}\0\0\0", re.DOTALL)),
    "gif": (_step_gif, _GIF_MORE),
}
