"""ICC profiles of a clip's pictures: of Motion JPEG, PNG, animated AVIF, MOV (decoder child)."""

import zlib
from typing import Any

from av.sidedata.sidedata import Type as SideDataType

from service.media.image.formats.png import read_profile as read_png_profile

_PNG_HEAD_BYTES = 8
_HIDDEN = b"prIV"  # a private chunk, which every reader skips


class ProfileKeeper:
    """Keeps the profiles of PNG from FFmpeg and hands them to the frames.

    FFmpeg gives their names along, and PyAV 18.1 frees these twice with the side data of a frame.
    """

    def __init__(self) -> None:
        self._profiles: dict[int | None, bytes] = {}

    def take(self, packet: Any) -> None:
        """Hide the profile of a packet, in place, before it is decoded."""
        data = memoryview(packet)
        at = _PNG_HEAD_BYTES
        while at + 12 <= len(data) and (kind := bytes(data[at + 4 : at + 8])) != b"IDAT":
            end = at + 12 + int.from_bytes(data[at : at + 4])
            if kind == b"iCCP" and end <= len(data):
                self._profiles[packet.pts] = read_png_profile(bytes(data[at + 8 : end - 4]))
                data[at + 4 : at + 8] = _HIDDEN
                data[end - 4 : end] = zlib.crc32(data[at + 4 : end - 4]).to_bytes(4)
            at = end

    def give(self, frame: Any) -> None:
        """Hand a frame the profile of its packet."""
        frame.opaque = self._profiles.pop(frame.pts, None)


def read_profile(frame: Any) -> bytes:
    """Return the profile of a frame, empty for none."""
    if isinstance(frame.opaque, bytes):
        return frame.opaque
    found = (data for data in frame.side_data if data.type == SideDataType.ICC_PROFILE)
    return bytes(next(found, b""))
