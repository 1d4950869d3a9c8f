"""Fragmented MP4: one H.264 encoder, a fragment for each answer."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags

from service.media.video.labels import NO_LABELS, ClipLabels, write_labels
from service.media.video.types import Image
from service.media.video.writing.yuv import BT709, YuvConverter, state_bt709

# Frames of 24, 25, 30 and 60 Hz, those of NTSC, milliseconds and MPEG's 90 kHz are exact on it.
TICKS_PER_S = 360_000
CRF, PRESET, PIXEL_FORMAT = 20, "veryfast", "yuv420p"
GROUP_S = 2  # between frames that can be decoded by themselves
# Measured on x264 with these options: what one encoder takes, beside what each pixel takes.
_ENCODER_BYTES, _ENCODER_BYTES_PER_PIXEL = 3 << 20, 22
# ITU-T H.264, table A-1: level, macroblocks a second, macroblocks a frame.
_LEVELS = (
    (30, 40_500, 1620),
    (31, 108_000, 3600),
    (32, 216_000, 5120),
    (40, 245_760, 8192),
    (42, 522_240, 8704),
    (50, 589_824, 22_080),
    (51, 983_040, 36_864),
)
_HIGHEST_LEVEL = 52
_MUXER = {
    "movflags": "frag_custom+empty_moov+default_base_moof+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}


class FragmentWriteError(Exception):
    """The encoder refused; the cause is chained."""


def choose_level(size: tuple[int, int] | None, fps: float) -> int:
    """Return ten times the H.264 level for frames of (height, width); the highest if unknown."""
    if size is not None:
        blocks = -(-size[0] // 16) * -(-size[1] // 16)
        for level, most_a_second, most_a_frame in _LEVELS:
            if blocks <= most_a_frame and blocks * fps <= most_a_second:
                return level
    return _HIGHEST_LEVEL


def describe_mime(level: int) -> str:
    """Return the MIME type that Media Source Extensions need (RFC 6381): profile High, `level`."""
    return f'video/mp4; codecs="avc1.6400{level:02x}"'


def count_encoder_bytes(size: tuple[int, int]) -> int:
    """Return about how much memory an encoder of (height, width) holds."""
    return _ENCODER_BYTES + _ENCODER_BYTES_PER_PIXEL * size[0] * size[1]


class FragmentWriter:
    """Encodes frames, uint8, each at once; for one thread at a time.

    Frames are (height, width, 3) RGB or (height, width) grey.

    What comes out depends on the frames and their times alone, not on the fragments they are cut
    into: the encoder holds no frame back, looks at none ahead, has one thread and groups of fixed
    length. Odd sizes are padded to even by repeating the edge. Colours are BT.709, limited range.
    `labels`, but for their chapters, are stated at the beginning. Raises FragmentWriteError.
    """

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        level: int,
        labels: ClipLabels = NO_LABELS,
    ) -> None:
        self._converter = YuvConverter(size[1], size[0], PIXEL_FORMAT, BT709)
        self.frames = 0
        self._labels = replace(labels, chapters=())  # which the whole would have to be known for
        with _refusals("the encoder cannot be opened"):
            # By itself, not as a stream: a file and its streams hold each other, and the memory of
            # an encoder among them, until the garbage collector comes by.
            self._encoder = self._open_encoder(size, fps, level)
            # `ftyp` and `moov`: what a player needs before the first fragment.
            self.init = self._write([], 1)

    def _open_encoder(self, size: tuple[int, int], fps: float, level: int) -> Any:
        encoder = av.CodecContext.create("libx264", "w")
        right, below = self._converter.padded
        encoder.width, encoder.height = size[1] + right, size[0] + below
        encoder.pix_fmt = PIXEL_FORMAT
        encoder.framerate = Fraction(fps).limit_denominator(1001)
        encoder.time_base = Fraction(1, TICKS_PER_S)
        encoder.thread_count = 1
        encoder.flags |= Flags.global_header
        encoder.options = {
            "preset": PRESET,
            "tune": "zerolatency",
            "crf": str(CRF),
            "profile": "high",
            "level": f"{level / 10:.1f}",
            "g": str(max(1, round(GROUP_S * fps))),
            "sc_threshold": "0",
        }
        state_bt709(encoder)
        encoder.open()
        return encoder

    def encode(self, image: Image, pts: int) -> Any:
        """Return the packet of one frame; `pts` in ticks, above that of the frame before."""
        frame = self._converter.convert(image)
        frame.pts = pts
        frame.time_base = Fraction(1, TICKS_PER_S)
        self.frames += 1
        with _refusals("the encoder refused a frame"):
            (packet,) = self._encoder.encode(frame)
        return packet

    def mux(self, packets: list[Any], number: int, end: int) -> bytes:
        """Return packets as fragment `number` (from 1 on), `moof` and `mdat`.

        `end`: ticks at which the last frame ends.
        """
        for packet, following in zip(packets, [*packets[1:], None], strict=True):
            packet.duration = (end if following is None else following.pts) - packet.pts
        with _refusals("the fragment cannot be written"):
            content = self._write(packets, number)
        return content[_find_fragment(content) :]

    def _write(self, packets: list[Any], number: int) -> bytes:
        """Return a whole file: its beginning, and a fragment if there are packets."""
        buffer, encoder = io.BytesIO(), self._encoder
        options = _MUXER | {"fragment_index": str(number)}
        with (
            av.open(io.BytesIO(), "w", format="mp4") as scratch,  # never begun
            av.open(buffer, "w", format="mp4", container_options=options) as container,
        ):
            # A stream made from a template is not opened as an encoder; its header is what its
            # context says.
            template = scratch.add_stream("libx264", rate=encoder.framerate)
            stream = container.add_stream_from_template(template)
            stream.time_base = Fraction(1, TICKS_PER_S)
            context = stream.codec_context
            context.height, context.width = encoder.height, encoder.width
            context.pix_fmt = encoder.pix_fmt
            context.extradata = encoder.extradata
            state_bt709(context)
            write_labels(container, self._labels)
            container.start_encoding()
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
        return buffer.getvalue()


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise FragmentWriteError(what) from error


def _find_fragment(content: bytes) -> int:
    """Return where the first `moof` begins; each muxer writes `ftyp` and `moov` anew."""
    position = 0
    while content[position + 4 : position + 8] != b"moof":
        (size,) = struct.unpack_from("!I", content, position)
        position += size
    return position
