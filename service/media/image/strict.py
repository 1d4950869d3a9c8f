"""Damage inside the coded pixels of HEIF and AVIF. For the decoder child alone."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.media.image.formats.avif import import_av

# Of FFmpeg's decoders: dav1d then compares how many bits a tile has with how many it took.
_STRICT = {"strict": "strict", "err_detect": "explode+crccheck"}
_QUICK = {"skip_loop_filter": "all"}  # the same values whatever is compared
_SPOILED = np.random.default_rng(0).integers(4, 256, 12, np.uint8).tobytes()
_FIRST_BYTES = 16  # of a slice, which hold its header
_LAST_SLICE = 31  # types of units up to this one hold pixels (ITU-T H.265, table 7-1)
_FILLING, _LAST_BYTES = b"\0\3", 4
# Slices of one picture whose ends are looked at, and bytes of all pictures: that takes as long as
# decoding them.
_MOST_SLICES, _MOST_BYTES = 2, 8 << 20


def has_av1_or_hevc_flaw(data: bytes | bytearray) -> bool:
    """Say whether the picture of an AVIF or HEIF, which decoders show, is damaged.

    A strict decoder refuses it, or does not come to the end of what is coded. Thumbnails do not
    count.
    """
    av = import_av()
    with contextlib.suppress(av.FFmpegError, ValueError), av.open(io.BytesIO(data)) as container:
        parts = av.stream.Disposition.default | av.stream.Disposition.dependent  # and its tiles
        streams = [s for s in container.streams.video if s.disposition & parts]
        seen, coded_bytes = set[int](), 0
        for packet in container.demux(streams):
            stream = packet.stream
            if packet.size and stream.index not in seen:  # of a film only the first picture
                seen.add(stream.index)
                coded_bytes += packet.size
                context, is_cheap = stream.codec_context, coded_bytes <= _MOST_BYTES
                if _is_damaged(context, bytes(packet), looks_at_ends=is_cheap):
                    return True
    return False


def _is_damaged(context: Any, coded: bytes, *, looks_at_ends: bool) -> bool:
    """Say whether the coded pixels of one tile are damaged."""
    av, is_hevc = import_av(), context.name == "hevc"
    try:
        sound = _decode(context, coded, _STRICT | (_QUICK if is_hevc else {}))
    except av.InvalidDataError:
        return True
    if not (is_hevc and looks_at_ends):
        return False
    for spoiled in _spoil_ends(coded, bytes(context.extradata or b"")):
        with contextlib.suppress(av.FFmpegError):
            other = _decode(context, spoiled, _QUICK)
            if len(sound) == len(other) and all(map(np.array_equal, sound, other)):
                return True
    return False


def _decode(context: Any, coded: bytes, options: dict[str, str]) -> list[NDArray[np.uint8]]:
    """Return the planes of the pictures that coded bytes hold, by a decoder of their own."""
    av = import_av()
    decoder = av.CodecContext.create(context.name, "r")
    decoder.extradata, decoder.thread_count, decoder.options = context.extradata, 1, options
    frames = [*decoder.decode(av.Packet(coded)), *decoder.decode(None)]
    return [_read(plane, frame.format) for frame in frames for plane in frame.planes]


def _read(plane: Any, format: Any) -> NDArray[np.uint8]:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
    return rows[:, : plane.width * ((format.components[0].bits + 7) // 8)].copy()


def _spoil_ends(coded: bytes, description: bytes) -> Iterator[bytes]:
    """Yield the coded bytes with noise at the end of one of the largest slices after another.

    A decoder that has lost its way does not, as a rule, come near it; then it changes nothing.
    """
    if len(description) < 22:
        return
    length_bytes, at, slices = (description[21] & 3) + 1, 0, list[tuple[int, int]]()
    while at + length_bytes < len(coded):
        start = at + length_bytes
        at = start + int.from_bytes(coded[at:start])
        if start < at <= len(coded) and coded[start] >> 1 & 63 <= _LAST_SLICE:
            slices.append((start, at))
    slices.sort(key=lambda one: one[0] - one[1])
    for start, end in slices[:_MOST_SLICES]:
        end = start + _find_end(coded[start:end])
        begin = max(end - len(_SPOILED), start + _FIRST_BYTES)
        if begin < end:
            yield coded[:begin] + _SPOILED[: end - begin] + coded[end:]


def _find_end(unit: bytes) -> int:
    """Return where the code in a unit ends; some encoders fill it up but for its last bytes."""
    end = len(unit.rstrip(_FILLING))
    filled = len(unit[: end - _LAST_BYTES].rstrip(_FILLING))
    return filled if end - filled > 2 * _LAST_BYTES else end
