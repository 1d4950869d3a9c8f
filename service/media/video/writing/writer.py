"""Encode and mux a result with the clip's own times and audio."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av

from service.media.audio.types import AudioPacket, AudioTrack
from service.media.audio.writer import AudioWriter
from service.media.colour.planes import YuvPicture
from service.media.video.labels import write_labels
from service.media.video.pixel_shape import stretch
from service.media.video.types import Image, VideoInfo
from service.media.video.writing.coded import CodedFrames
from service.media.video.writing.encoders import Encoding, add_video, h264, state_colour
from service.media.video.writing.result_writer import FrameTime, ResultWriter
from service.media.video.writing.yuv import YuvConverter

# MP4 counts a frame's duration in 31 bits; a finer clock is rounded to this one.
MAX_TIMESCALE = 1_000_000
_MAX_GAP_TICKS = (1 << 31) - 1
MAX_MOVIE_TIMESCALE = 1_000_000
H264 = h264()


class VideoWriter(ResultWriter):
    """Writes one MP4 (fast-start), MOV or WebM, as the encoding says; `threads`: of the encoder.

    Raises ValueError for values out of range, VideoWriteError when the encoder or the disk refuses.

    Times: a frame's time in the file is `(pts - info.origin_pts) * info.time_base`, exactly, at
    any frame rate, and a late start stays (as an edit list). `origin_pts` is 0 except for clips
    whose clock is arbitrary (MPEG-TS, pieces of a live stream, a start before zero) and for parts
    that begin late: those begin at zero and keep every distance, audio included. A clock finer than
    MAX_TIMESCALE is rounded to it; WebM's own has 1 ms. The last frame keeps its duration.

    Odd sizes are padded to even by repeating the edge. Pixels that are not square stay so and are
    tagged, but for WebM, which gets them stretched to square ones.
    """

    def __init__(
        self, path: Path, info: VideoInfo, encoding: Encoding = H264, *, threads: int = 2
    ) -> None:
        if threads < 1:
            raise ValueError("threads is at least 1")
        super().__init__(path, info, channels=encoding.channels)
        self._size = width, height = encoding.choose_size(info)
        self._converter = YuvConverter(
            width, height, encoding.pixel_format, encoding.choose_matrix(info)
        )
        self.padded = self._converter.padded
        self.width, self.height = width + self.padded[0], height + self.padded[1]
        self._encoding = encoding
        self._ticks_per_s = encoding.ticks or min(info.time_base.denominator, MAX_TIMESCALE)
        self._last_ticks = -1
        self._end = 0
        self._held: Any = None
        self._first = 0, 0
        self._durations: dict[int, int] = {}  # of the frames inside the encoder, by pts
        self._coding_times: deque[int] = deque()  # of frames that are copied
        self._file: Any = None
        with self._abort_on_error():
            self._file = self._open()
            padded = self.width, self.height
            self._video = add_video(self._file, encoding, info, padded, self._ticks_per_s, threads)
            self._audio = AudioWriter(
                self._file, info.audio, info.origin_pts * info.time_base, encoding.container
            )
            write_labels(self._file, info.labels)
            self._file.start_encoding()

    def _open(self) -> Any:
        container = self._encoding.container
        options = {}
        if container != "webm":
            tracks = tuple(t for t in self._info.audio if container in t.containers)
            options = {
                "movflags": "+faststart",
                "video_track_timescale": str(self._ticks_per_s),
                "movie_timescale": str(_movie_timescale(self._ticks_per_s, tracks)),
            }
        return av.open(str(self.path.absolute()), "w", format=container, container_options=options)

    def _write_frame(self, image: Image | YuvPicture, pts: int, duration: int | None) -> None:
        ticks = self._place(pts, duration)
        frame = self._to_yuv(image)
        frame.pts = ticks
        frame.time_base = Fraction(1, self._ticks_per_s)
        self._mux_video(self._video.encode(frame))

    def _copy_frames(
        self, file: BinaryIO, times: Sequence[FrameTime], on_frame: Callable[[int], None]
    ) -> None:
        coded, context = CodedFrames(file), self._video.codec_context
        if len(coded.times) != len(times):
            raise ValueError(f"a segment has {len(coded.times)} frames instead of {len(times)}")
        ticks = [self._place(pts, duration) for pts, duration in times]
        if self._held is None:
            self._coding_times.extend(_precede(ticks, context.reorder_depth))
        self._coding_times.extend(ticks)
        shown = dict(zip(coded.times, ticks, strict=True))
        for index, packet in enumerate(coded.read(context.extradata)):
            on_frame(index)
            packet.time_base = Fraction(1, self._ticks_per_s)
            packet.pts, packet.dts = shown[packet.pts], self._coding_times.popleft()
            self._mux_video([packet])

    def _place(self, pts: int, duration: int | None) -> int:
        """Return when the next frame is shown, in ticks of the file."""
        ticks = max(self._to_ticks(pts - self._info.origin_pts), self._last_ticks + 1)
        gap = ticks - self._last_ticks
        length = self._to_ticks(duration or 0) or gap
        if max(gap, length) > _MAX_GAP_TICKS:
            raise ValueError("a frame lasts longer than the file can say")
        self._last_ticks = ticks
        self._durations[ticks] = max(length, 1)
        self._end = ticks + self._durations[ticks]
        return ticks

    def _write_audio(self, packet: AudioPacket) -> None:
        self._audio.write(packet)

    def _finish(self) -> None:
        self._mux_video(self._video.encode(None))
        # Durations count from one coded packet to the next, and pictures are coded in another
        # order: the last packet fills what is left to the end of the last picture.
        first_pts, first_dts = self._first
        coded = self._held.dts - first_dts
        self._held.duration = max(self._end - first_pts - coded, 1)
        self._file.mux(self._held)
        self._file.close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()

    def _to_ticks(self, pts: int) -> int:
        return round(pts * self._info.time_base * self._ticks_per_s)

    def _to_yuv(self, image: Image | YuvPicture) -> Any:
        if isinstance(image, YuvPicture) and image.size[::-1] != self._size:
            image = image.rgb
        if not isinstance(image, YuvPicture):
            image = stretch(image, self._size)
        frame = self._converter.convert(image)
        # ProRes writes what its frames say, not its encoder.
        frame.color_primaries = state_colour(self._info.color_primaries)
        frame.color_trc = state_colour(self._info.color_trc)
        return frame

    def _mux_video(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            packet.stream = self._video
            if self._held is None:
                self._first = packet.pts, packet.dts  # a key frame, coded and shown first
            else:
                self._file.mux(self._held)
            self._held = packet


def _precede(ticks: Sequence[int], depth: int) -> list[int]:
    """Return when the first frames are coded: `depth` of them before the first one is shown.

    From then on each is coded when the frame `depth` before it is shown, as x264 does it.
    """
    start = ticks[0]
    if len(ticks) > depth:
        return [time - (ticks[depth] - start) for time in ticks[:depth]]
    return list(range(start - depth, start))


def _movie_timescale(ticks: int, tracks: tuple[AudioTrack, ...]) -> int:
    """Return a clock for the edit lists on which frames and, if possible, samples are exact."""
    common = math.lcm(ticks, *(track.sample_rate for track in tracks))
    return common if common <= MAX_MOVIE_TIMESCALE else ticks
