"""Slices of one recording, as MediaRecorder makes them: only the first has the file's header.

Reads sizes and flags of WebM elements (RFC 8794, RFC 9559) and MP4 boxes (ISO 14496-12), decodes
nothing: where the header ends, where parts begin that can be decoded by themselves, and how far
the bytes are complete.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from service.media.video.recording.mp4_parts import PARTS, scan_mp4
from service.media.video.recording.webm_parts import CLUSTER, EBML, is_webm, scan_webm

MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Slices:
    """What is kept of a recording for its next slice: its header, and the parts since a key frame.

    `skipped` bytes lay between them: parts of an MP4 may say where they are in the whole file.
    """

    header: bytes
    carry: bytes
    skipped: int = 0

    @property
    def bytes(self) -> int:
        return len(self.header) + len(self.carry)


def is_later_slice(data: bytes) -> bool:
    """Say whether bytes begin like a slice that is not a recording's first."""
    return data[:4] == CLUSTER or data[4:8] in PARTS


def begins_file(data: bytes) -> bool:
    """Say whether bytes begin a WebM or MP4 of their own."""
    return is_webm(data) or data[4:8] in (b"ftyp", b"moov")


def join(before: Slices | None, data: bytes) -> tuple[Slices, Slices | None]:
    """Return all complete parts of a slice with what comes before, and what the next one needs.

    `before` is what the slice before left, None for the first one. None comes back for a file that
    is no recording in parts; without a complete part the first ones are empty.
    """
    skipped = 0 if before is None else before.skipped
    whole = data if before is None else before.header + before.carry + data
    try:
        found = scan_webm(whole) if is_webm(whole) else scan_mp4(whole)
    except (
        IndexError,
        ValueError,
        struct.error,
        RecursionError,
    ):  # not what it seems; the decoder will say
        found = None
    if found is None or found.header_end > MAX_HEADER_BYTES:
        return Slices(b"", whole), None
    if found.end == 0:  # nothing to decode yet
        header_end = 0 if before is None else len(before.header)
        return Slices(b"", b""), Slices(whole[:header_end], whole[header_end:], skipped)
    header = whole[: found.header_end]
    parts = Slices(header, whole[found.header_end : found.end], skipped)
    skipped += found.key_start - found.header_end
    return parts, Slices(header, whole[found.key_start :], skipped)


def write_slices(file: BinaryIO, slices: Slices) -> None:
    """Write a file that can be decoded; what was skipped is a hole in it."""
    file.write(slices.header)
    if slices.skipped and slices.header[:4] != EBML:
        file.write(struct.pack("!I4sQ", 1, b"free", slices.skipped))
        file.seek(len(slices.header) + slices.skipped)
    file.write(slices.carry)
