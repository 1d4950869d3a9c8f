"""Write a result as animated WebP or GIF, which browsers and chats show as a picture."""

from abc import abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.filter import Graph

from service.media.audio.types import AudioPacket
from service.media.colour.planes import YuvPicture
from service.media.video.pixel_shape import choose_square_size, stretch
from service.media.video.types import Image, VideoInfo
from service.media.video.writing.result_writer import ResultLimit, ResultWriter

# Of all frames together: who looks at it decodes it in memory, and a GIF takes a second for each.
MAX_MEGAPIXELS = 250
WEBP_TICKS, GIF_TICKS = 1000, 100  # a second, as both formats count
WEBP_MAX_SIDE = 16_383
# A shorter delay is shown as a tenth of a second by browsers.
GIF_MIN_TICKS = 2
HINT = "ask for a part by start and end, or for a lower max_fps"
# A palette for each frame; its order of dots is the same in each, so that nothing flickers.
_PALETTE = "stats_mode=single:reserve_transparent=1"
_DITHER = "new=1:alpha_threshold=128:dither=bayer:bayer_scale=3"


class AnimationWriter(ResultWriter):
    """Writes straight RGBA frames, (H, W, 4), that are repeated for ever; there is no audio.

    The first frame is shown at once, and times are rounded to `ticks_per_s`. Pixels are square, as
    viewers expect. Raises VideoWriteError, with ResultLimit as cause for more than MAX_MEGAPIXELS
    in all and for what the format cannot hold.
    """

    ticks_per_s: int
    format: str
    codec: str
    pixel_format: str
    codec_options: dict[str, str] = {}

    def __init__(self, path: Path, info: VideoInfo, *, threads: int = 1) -> None:
        super().__init__(path, info, channels=4)
        self.width, self.height = choose_square_size(info)
        self._frames = 0
        self._first_pts = 0
        self._last_ticks = -1
        self._duration = 1
        self._file: Any = None
        with self._abort_on_error():
            self._check_pixels(info.frames_estimate or 0)
            options = {"loop": "0"}
            self._file = av.open(str(path.absolute()), "w", format=self.format, options=options)
            stream = self._file.add_stream(
                self.codec, rate=self.ticks_per_s, options=self.codec_options
            )
            stream.width, stream.height = self.width, self.height
            stream.pix_fmt = self.pixel_format
            stream.codec_context.thread_count = threads
            stream.time_base = stream.codec_context.time_base = Fraction(1, self.ticks_per_s)
            self._stream = stream

    def _write_frame(self, image: Image | YuvPicture, pts: int, duration: int | None) -> None:
        assert not isinstance(image, YuvPicture)  # which has no alpha
        self._frames += 1
        self._check_pixels(self._frames)
        if self._frames == 1:
            self._first_pts = pts
        ticks = round((pts - self._first_pts) * self._info.time_base * self.ticks_per_s)
        gap = ticks - self._last_ticks
        self._check_gap(gap)
        self._last_ticks = ticks
        if duration:
            gap = round(duration * self._info.time_base * self.ticks_per_s)
        self._duration = max(gap, 1)
        image = stretch(image, (self.width, self.height))
        frame = av.VideoFrame.from_ndarray(image, "rgba")
        frame.pts, frame.time_base = ticks, Fraction(1, self.ticks_per_s)
        self._encode(self._convert(frame))

    @abstractmethod
    def _convert(self, frame: Any) -> Any:
        """Return the library's frame, in RGBA, as the encoder takes it."""

    def _check_gap(self, ticks: int) -> None:
        """Refuse frames that follow too soon."""
        if ticks < 1:
            raise ResultLimit("frames a second", self.ticks_per_s, self.ticks_per_s + 1, HINT)

    def _check_pixels(self, frames: int) -> None:
        megapixels = frames * self.width * self.height / 1e6
        if megapixels > MAX_MEGAPIXELS:
            what = "megapixels in all frames together"
            raise ResultLimit(what, MAX_MEGAPIXELS, round(megapixels, 1), HINT)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            packet.stream = self._stream
            packet.duration = self._duration  # of the last one it decides
            self._file.mux(packet)

    def _write_audio(self, packet: AudioPacket) -> None:
        """Pictures have no audio."""

    def _finish(self) -> None:
        self._encode(None)
        self._file.close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()


class WebpWriter(AnimationWriter):
    """Animated WebP: alpha is exact, colour is coded in half the resolution as in JPEG."""

    ticks_per_s = WEBP_TICKS
    format, codec, pixel_format = "webp", "libwebp_anim", "bgra"
    codec_options = {"quality": "90"}

    def __init__(self, path: Path, info: VideoInfo, *, threads: int = 1) -> None:
        super().__init__(path, info, threads=threads)
        with self._abort_on_error():
            if (side := max(self.width, self.height)) > WEBP_MAX_SIDE:
                raise ResultLimit("pixels a side", WEBP_MAX_SIDE, side, "send a smaller clip")

    def _convert(self, frame: Any) -> Any:
        return frame.reformat(format=self.pixel_format)


class GifWriter(AnimationWriter):
    """GIF: 255 colours a frame, and each pixel is opaque (alpha from 128 on) or transparent."""

    ticks_per_s = GIF_TICKS
    format, codec, pixel_format = "gif", "gif", "pal8"

    def __init__(self, path: Path, info: VideoInfo, *, threads: int = 1) -> None:
        super().__init__(path, info, threads=threads)
        self._graph = make_palette_graph(self.width, self.height)

    def _convert(self, frame: Any) -> Any:
        self._graph.push(frame)
        return self._graph.pull()

    def _check_gap(self, ticks: int) -> None:
        if self._last_ticks >= 0 and ticks < GIF_MIN_TICKS:
            most = self.ticks_per_s // GIF_MIN_TICKS
            raise ResultLimit("frames a second", most, self.ticks_per_s // max(ticks, 1), HINT)


def make_palette_graph(width: int, height: int) -> Graph:
    """Return the graph from RGBA to frames that bring 255 colours and a transparent one each."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=width,
        height=height,
        format=av.VideoFormat("rgba"),
        time_base=Fraction(1, GIF_TICKS),
    )
    split, palette = graph.add("split"), graph.add("palettegen", _PALETTE)
    use, sink = graph.add("paletteuse", _DITHER), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
