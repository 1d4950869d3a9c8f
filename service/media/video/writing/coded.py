"""Read the coded frames of a result that a writer made, to join it with others."""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import av

_START_CODE = b"\0\0\0\1"
_PARAMETER_SETS = 7, 8  # NAL unit types of H.264: sequence, picture


class CodedFrames:
    """The coded frames of one file, an MP4, MOV or WebM of a VideoWriter.

    `times` are those of its frames in the order in which they are shown, ticks of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.times = sorted(packet.pts for packet in self._demux())

    def read(self, parameters: bytes | None) -> Iterator[Any]:
        """Yield the packets as an encoder would hand them out, in its order.

        `parameters` are those of the H.264 encoder that they are to follow; raises ValueError when
        theirs are others.
        """
        for packet in self._demux():
            if packet.stream.codec_context.name != "h264":
                yield packet
                continue
            if parameters is not None:
                check_parameters(packet.stream.codec_context.extradata, parameters)
            coded = av.Packet(to_annex_b(bytes(packet)))
            coded.pts, coded.dts, coded.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            yield coded

    def _demux(self) -> Iterator[Any]:
        self._file.seek(0)
        with av.open(self._file) as source:
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    yield packet


def to_annex_b(sample: bytes) -> bytes:
    """Return an H.264 sample of an MP4 as encoders write it (ITU-T H.264, annex B).

    Lengths of four bytes become start codes; raises ValueError where they do not fit.
    """
    units, position = bytearray(sample), 0
    while position + 4 <= len(units):
        (length,) = struct.unpack_from("!I", units, position)
        units[position : position + 4] = _START_CODE
        position += 4 + length
    if position != len(units):
        raise ValueError("a coded frame is cut off")
    return bytes(units)


def check_parameters(configuration: bytes, parameters: bytes) -> None:
    """Compare the parameter sets of an MP4 (its `avcC` box) with those of an encoder.

    Frames of another encoding would show rubbish after the join. Raises ValueError.
    """
    wanted = [
        unit for unit in parameters.split(b"\0\0\1") if unit and unit[0] & 31 in _PARAMETER_SETS
    ]
    for unit in wanted:
        if unit.rstrip(b"\0") not in configuration:
            raise ValueError("a segment was encoded with other parameters")
