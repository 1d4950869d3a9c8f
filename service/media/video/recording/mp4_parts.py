"""Find the parts of a fragmented MP4 that can be decoded by themselves (ISO 14496-12)."""

import struct

from service.media.video.container.boxes import find_boxes, list_boxes
from service.media.video.recording.parts import Found

PARTS = (b"moof", b"styp", b"sidx", b"emsg", b"prft")
_NOT_SYNC = 0x10000  # of the sample flags


def scan_mp4(data: bytes) -> Found | None:
    tracks: dict[int, int] = {}
    header_end = key_start = part = None
    end, is_fragmented = 0, False
    for kind, start, content, box_end in list_boxes(data, 0, len(data)):
        if kind == b"moov":
            tracks = _find_mp4_video(data, content, box_end)
            is_fragmented = any(find_boxes(data, content, box_end, b"mvex"))
        if kind in PARTS and part is None:
            part = start
            header_end = start if header_end is None else header_end
        if kind == b"moof":
            begins_with_key = _begins_with_key(data, content, box_end, tracks)
            if begins_with_key or (key_start is None and begins_with_key is not None):
                key_start = part
        if kind == b"mdat" and part is not None:
            end, part = 0 if key_start is None else box_end, None
    if not is_fragmented:
        return None
    if header_end is None or key_start is None:
        return Found(0, 0, 0)
    return Found(header_end, key_start, end)


def _find_mp4_video(data: bytes, start: int, end: int) -> dict[int, int]:
    """Return the sample flags that count by default, by number of a video track."""
    default = {}
    for at, _ in find_boxes(data, start, end, b"mvex", b"trex"):
        number, flags = struct.unpack_from("!4xI12xI", data, at)
        default[number] = flags
    found = {}
    for content, box_end in find_boxes(data, start, end, b"trak"):
        kinds = [
            data[at + 8 : at + 12] for at, _ in find_boxes(data, content, box_end, b"mdia", b"hdlr")
        ]
        for at, _ in find_boxes(data, content, box_end, b"tkhd"):
            number_at = at + (20 if data[at] == 1 else 12)
            if b"vide" in kinds:
                number = int.from_bytes(data[number_at : number_at + 4])
                found[number] = default.get(number, _NOT_SYNC)
    return found


def _begins_with_key(data: bytes, start: int, end: int, tracks: dict[int, int]) -> bool | None:
    """Say whether the first picture of a `moof` is a sync sample; None for one without pictures."""
    for content, box_end in find_boxes(data, start, end, b"traf"):
        (head,) = [at for at, _ in find_boxes(data, content, box_end, b"tfhd")]
        told, number = struct.unpack_from("!II", data, head)
        if number not in tracks:
            continue
        flags = tracks[number]
        if told & 0x20:
            skipped = sum(size for bit, size in ((1, 8), (2, 4), (8, 4), (16, 4)) if told & bit)
            (flags,) = struct.unpack_from("!I", data, head + 8 + skipped)
        for at, _ in find_boxes(data, content, box_end, b"trun"):
            (told,) = struct.unpack_from("!I", data, at)
            at += 8 + (4 if told & 1 else 0)
            if told & 4:
                (flags,) = struct.unpack_from("!I", data, at)
            elif told & 0x400:
                at += (4 if told & 0x100 else 0) + (4 if told & 0x200 else 0)
                (flags,) = struct.unpack_from("!I", data, at)
            return not flags & _NOT_SYNC
    return None
