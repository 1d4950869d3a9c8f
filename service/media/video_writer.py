"""Writing of a result: H.264 frames with the clip's own times and sound, in one MP4 file."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from service.media.video_frames import SCALING, SWS_MATRIX, yuv_matrix
from service.media.video_types import AudioPacket, AudioTrack, Image, VideoInfo

# Frames that x264 looks ahead: the preset's own figure, cut where it would hold too many pictures.
PRESETS = {
    "ultrafast": 0,
    "superfast": 0,
    "veryfast": 10,
    "faster": 20,
    "fast": 20,
    "medium": 20,
    "slow": 20,
    "slower": 20,
    "veryslow": 20,
}
# MP4 counts a frame's duration in 31 bits; a finer clock is rounded to this one.
MAX_TIMESCALE = 1_000_000
_MAX_GAP_TICKS = (1 << 31) - 1
MAX_MOVIE_TIMESCALE = 1_000_000
_DEFAULT_FRAME_RATE = Fraction(30)
_PACKET_SAMPLES = {"aac": 1024, "mp3": 1152, "ac3": 1536, "alac": 4096}
_UNSTATED, _BT709 = (0, 2), 1
_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus"}  # the others are called like their codec
_ENCODE_ERRORS = (av.FFmpegError, OSError, ValueError, MemoryError, OverflowError)


class VideoWriteError(Exception):
    """The result could not be written; the cause is chained (an OSError has its errno)."""


class VideoWriter:
    """Writes one fast-start MP4; used from one thread; as a context manager it closes or aborts.

    `info`: the clip as the reader describes it; frames are (info.height, info.width, 3) uint8 RGB.
    `crf`: 0 (lossless) to 51. `preset`: one of PRESETS. `audio`: keep the clip's sound tracks.
    `threads`: encoder threads. Raises ValueError for values out of range, VideoWriteError when
    the encoder or the disk refuses.

    Times: a frame's time in the file is `(pts - info.origin_pts) * info.time_base`, exactly, at
    any frame rate, and a late start stays (as an edit list). `origin_pts` is 0 except for clips
    whose clock is arbitrary (MPEG-TS, pieces of a live stream, a start before zero): those begin
    at zero and keep every distance, sound included. Only a clock finer than MAX_TIMESCALE is
    rounded. The last frame keeps its duration.

    Odd sizes are padded to even by repeating the edge; `padded` says how many pixels right and
    below, `width` and `height` are the file's. Colour: the clip's matrix, primaries and transfer
    are kept and tagged (BT.709 where not stated, as browsers assume), in limited range.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        *,
        crf: int = 20,
        preset: str = "veryfast",
        audio: bool = True,
        threads: int = 2,
    ) -> None:
        if not 0 <= crf <= 51 or preset not in PRESETS or threads < 1:
            raise ValueError("crf is 0 to 51, preset a name of x264, threads at least 1")
        self.path = path
        self.padded = info.width % 2, info.height % 2
        self.width, self.height = info.width + self.padded[0], info.height + self.padded[1]
        self._info = info
        self._tracks = info.audio if audio else ()
        self._timescale = min(info.time_base.denominator, MAX_TIMESCALE)
        self._matrix = SWS_MATRIX[yuv_matrix(info.colorspace, info.height)]
        self._reformatter = VideoReformatter()
        self._last_pts, self._last_ticks = info.origin_pts - 1, -1
        self._end = 0
        self._durations: dict[int, int] = {}  # of the frames inside the encoder, by pts
        self._held: Any = None
        self._sound_ends: dict[int, tuple[int, int]] = {}  # last start and end, by track
        self._closed = self._finished = False
        self._container: Any = None
        with self._abort_on_error():
            options = {
                "movflags": "+faststart",
                "video_track_timescale": str(self._timescale),
                "movie_timescale": str(_movie_timescale(self._timescale, self._tracks)),
            }
            self._container = av.open(
                str(path.absolute()), "w", format="mp4", container_options=options
            )
            self._video = self._add_video(crf, preset, threads)
            self._audio = [_add_audio(self._container, track) for track in self._tracks]
            self._container.start_encoding()

    def write_frame(self, image: Image, pts: int, duration: int | None) -> None:
        """Encode one frame: (H, W, 3) uint8 RGB; `pts` and `duration` in ticks of the clip.

        `pts` increases from frame to frame. Raises VideoWriteError; the file is then gone.
        """
        with self._abort_on_error():
            if image.shape != (self._info.height, self._info.width, 3) or image.dtype != np.uint8:
                raise ValueError("a frame of another size or type")
            if pts <= self._last_pts:
                raise ValueError("timestamps of frames must increase, from the clip's origin on")
            ticks = max(self._ticks(pts - self._info.origin_pts), self._last_ticks + 1)
            gap = ticks - self._last_ticks
            length = self._ticks(duration or 0) or gap
            if max(gap, length) > _MAX_GAP_TICKS:
                raise ValueError("a frame lasts longer than MP4 can say")
            self._last_pts, self._last_ticks = pts, ticks
            self._durations[ticks] = max(length, 1)
            self._end = ticks + self._durations[ticks]
            frame = self._to_yuv(image)
            frame.pts = ticks
            frame.time_base = Fraction(1, self._timescale)
            self._mux_video(self._video.encode(frame))

    def write_audio(self, packet: AudioPacket) -> None:
        """Copy one packet of sound; ignored when sound is not kept. Raises VideoWriteError."""
        if not self._tracks:
            return
        with self._abort_on_error():
            if packet.track >= len(self._tracks):
                raise ValueError("a packet of an unknown sound track")
            self._container.mux(self._to_library(packet))

    def close(self) -> None:
        """Finish the file; again: nothing. Raises VideoWriteError, also without any frame."""
        if self._finished:
            return
        with self._abort_on_error():
            if self._last_ticks < 0:
                raise ValueError("no frame was written")
            self._mux_video(self._video.encode(None))
            # The last packet in coding order need not be the last picture, yet it ends the track.
            self._held.duration = self._end - self._held.pts
            self._container.mux(self._held)
            self._container.close()
            self._closed = self._finished = True

    def abort(self) -> None:
        """Stop and remove the file; harmless after close() or abort()."""
        if self._closed:
            return
        self._closed = True
        self.path.unlink(missing_ok=True)  # first, so that the trailer has nothing to move
        try:
            if self._container is not None:
                self._container.close()
        except _ENCODE_ERRORS:
            pass
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @contextmanager
    def _abort_on_error(self) -> Iterator[None]:
        if self._closed:
            raise VideoWriteError("The result is closed or was given up.")
        try:
            yield
        except _ENCODE_ERRORS as error:
            self.abort()
            reason = str(error) if type(error) is ValueError else "the encoder or the disk refused"
            raise VideoWriteError(f"The result could not be written: {reason}.") from error

    def _add_video(self, crf: int, preset: str, threads: int) -> Any:
        info = self._info
        options = {"crf": str(crf), "preset": preset, "rc-lookahead": str(PRESETS[preset])}
        rate = info.average_rate or _DEFAULT_FRAME_RATE
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, self._timescale)
        context = stream.codec_context
        context.time_base = Fraction(1, self._timescale)
        context.thread_count = threads
        context.thread_type = "FRAME"
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.colorspace = yuv_matrix(info.colorspace, info.height)
        context.color_range = ColorRange.MPEG
        context.color_primaries = _stated(info.color_primaries)
        context.color_trc = _stated(info.color_trc)
        return stream

    def _ticks(self, pts: int) -> int:
        return round(pts * self._info.time_base * self._timescale)

    def _to_yuv(self, image: Image) -> Any:
        right, below = self.padded
        if right or below:
            replicate = cv2.BORDER_REPLICATE
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, replicate), np.uint8)
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, "rgb24"),
            format="yuv420p",
            dst_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
        )

    def _mux_video(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            packet.stream = self._video
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet

    def _to_library(self, packet: AudioPacket) -> Any:
        """Return the packet in ticks of its sample rate, after the one before."""
        track = self._tracks[packet.track]
        rate = track.sample_rate * track.time_base
        shift = self._info.origin_pts * self._info.time_base * track.sample_rate
        dts, usual = round(packet.dts * rate - shift), _PACKET_SAMPLES.get(track.codec)
        length = usual or round(packet.duration * rate) or 1
        if packet.track in self._sound_ends:
            before, expected = self._sound_ends[packet.track]
            # Clocks coarser than a sample (Matroska: 1 ms) blur times that are evenly spaced.
            dts = expected if abs(expected - dts) <= rate else max(dts, before + 1)
        self._sound_ends[packet.track] = dts, dts + length
        copy = av.Packet(len(packet.data))  # the library's own memory, with its padding
        copy.update(packet.data)
        copy.stream = self._audio[packet.track]
        copy.time_base = Fraction(1, track.sample_rate)
        copy.dts = dts
        copy.pts = dts + max(round((packet.pts - packet.dts) * rate), 0)
        # A last packet of no duration would lie behind the end of its track.
        copy.duration = round(packet.duration * rate) or length
        copy.is_keyframe = packet.is_keyframe
        return copy


def _add_audio(container: Any, track: AudioTrack) -> Any:
    """Add a stream that only carries packets.

    A stream made from a template is never opened as an encoder, and its header is what its context
    says. The template is a stream of a second file that is never begun.
    """
    with av.open(io.BytesIO(), "w", format="mp4") as scratch:
        encoder = _ENCODERS.get(track.codec, track.codec)
        template = scratch.add_stream(encoder, rate=track.sample_rate)
        template.codec_context.layout = track.layout
        stream = container.add_stream_from_template(template)
    stream.time_base = Fraction(1, track.sample_rate)
    stream.codec_context.layout = track.layout
    stream.codec_context.sample_rate = track.sample_rate
    if track.extradata:
        stream.codec_context.extradata = track.extradata
    if track.language:
        stream.metadata["language"] = track.language
    return stream


def _movie_timescale(timescale: int, tracks: tuple[AudioTrack, ...]) -> int:
    """Return a clock for the edit lists on which frames and, if possible, samples are exact."""
    common = math.lcm(timescale, *(track.sample_rate for track in tracks))
    return common if common <= MAX_MOVIE_TIMESCALE else timescale


def _stated(number: int) -> int:
    return _BT709 if number in _UNSTATED else number
