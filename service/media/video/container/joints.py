"""Matroska and WebM files that were joined: which of them can be read by the first one's header."""

from itertools import islice
from typing import BinaryIO, NamedTuple

from service.media.video.container.elements import (
    CLUSTER,
    EBML,
    TRACKS,
    find_headers,
    list_elements,
    walk_segment,
)

# More, or longer ones, are no recordings of anybody.
_MAX_FILES, _MAX_TRACKS_BYTES = 64, 1 << 18
_TRACK, _NUMBER, _CODEC, _PRIVATE, _AUDIO = 0xAE, 0xD7, 0x86, 0x63A2, 0xE1
# Codecs whose pictures say all of themselves that a decoder needs.
_SELF_CONTAINED = (b"V_VP8", b"V_VP9", b"V_AV1", b"V_MJPEG", b"V_MPEG2")
_Tracks = dict[int, tuple[bytes, bytes, bytes]]


class Joints(NamedTuple):
    """Where the part of a file ends that is read, None for all of it, and how many files follow."""

    end: int | None = None
    unread: int = 0


def find_joints(file: BinaryIO) -> Joints:
    """Return up to where a Matroska is read: the library decodes all of it by its first header."""
    file.seek(0)
    if file.read(4) != EBML.to_bytes(4):
        return Joints()
    headers = list(islice(find_headers(file), _MAX_FILES + 1))
    first = _read_tracks(file, headers[0]) if len(headers) > 1 else {}
    for number, at in enumerate(headers[1:_MAX_FILES], 1):
        tracks = _read_tracks(file, at)
        if any(first.get(track) != facts for track, facts in tracks.items()):
            return Joints(at, len(headers) - number)
    return Joints(headers[-1], 1) if len(headers) > _MAX_FILES else Joints()


def _read_tracks(file: BinaryIO, start: int) -> _Tracks:
    """Return by its number what a track is decoded by."""
    for name, _, content, size in walk_segment(file, start):
        if name == CLUSTER:
            break
        if name == TRACKS and size <= _MAX_TRACKS_BYTES:
            file.seek(content)
            entries = [
                dict(list_elements(entry))
                for kind, entry in list_elements(file.read(size))
                if kind == _TRACK
            ]
            return {int.from_bytes(entry.get(_NUMBER, b"")): _describe(entry) for entry in entries}
    return {}


def _describe(entry: dict[int, bytes]) -> tuple[bytes, bytes, bytes]:
    codec = entry.get(_CODEC, b"").rstrip(b"\0")
    private = b"" if codec in _SELF_CONTAINED else entry.get(_PRIVATE, b"")
    return codec, private, entry.get(_AUDIO, b"")
