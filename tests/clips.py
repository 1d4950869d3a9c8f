"""Makers of small clips for tests: a slow pan and zoom over a portrait, with a sine tone."""

import functools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

TONE_HZ = 440
SAMPLE_RATE = 48_000
_FORMATS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".gif": "gif",
    ".avi": "avi",
    ".flv": "flv",
}
_SOUND = {".webm": "libopus", ".gif": None}
_SWS_MATRIX = {1: 1, 5: 5, 6: 5}
_PRESETS = {
    "vorbis": {"strict": "experimental"},
    "libx264": {"preset": "veryfast", "crf": "12"},
    "libx265": {"preset": "ultrafast", "crf": "12", "x265-params": "log-level=none"},
}


@functools.cache
def _portrait() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut()


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """Return frame `index` of the pan and zoom: (H, W, 3) uint8 RGB for `size` (W, H)."""
    width, height = size
    source = _portrait()
    zoom = max(width / source.shape[1], height / source.shape[0]) * (1.3 + 0.004 * index)
    x = 0.15 * source.shape[1] * zoom - 0.7 * index
    y = 0.05 * source.shape[0] * zoom
    matrix = np.array([[zoom, 0, -x], [0, zoom, -y]])
    return cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR)


def make_clip(
    path: Path,
    *,
    seconds: float = 1,
    fps: int = 30,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    tone: bool = True,
    sound_codec: str = "aac",
    sound_tracks: int = 1,
    rotation: int = 0,
    mirrored: bool = False,
    start_s: float = 0,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    color: tuple[int, int, int] | None = None,
    colorspace: int = 2,
    color_range: ColorRange = ColorRange.MPEG,
    sample_aspect_ratio: Fraction | None = None,
    interlaced: bool = False,
    event_s: float | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip whose suffix chooses the container (.mp4 .mov .mkv .webm .ts .gif).

    `times`: frame times in `time_base` instead of even ones. `rotation`: the clockwise turn a
    player makes, before it flips left and right if `mirrored`. `color`: one RGB colour instead of
    the portrait. `colorspace`: H.273 matrix, 2 leaves it unstated (pixels then follow BT.601).
    `event_s`: until then all is dark and silent, a moment to see and to hear. `interlaced` is for
    x264 alone.
    """
    suffix = path.suffix
    if suffix == ".gif":
        codec, pix_fmt = "gif", "rgb8"
    sound_codec = _SOUND.get(suffix, sound_codec) if sound_codec == "aac" else sound_codec
    time_base = time_base or Fraction(1, 100 if suffix == ".gif" else fps)
    if times is None:
        times = [round((i / fps + start_s) / time_base) for i in range(round(seconds * fps))]
    with av.open(str(path), "w", format=_FORMATS[suffix], container_options=options or {}) as out:
        more = {"x264-params": "tff=1"} if interlaced else {}
        video = out.add_stream(codec, rate=fps, options=_PRESETS.get(codec, {}) | more)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.codec_context.time_base = time_base
        video.codec_context.thread_count = 1
        if sample_aspect_ratio:
            video.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if pix_fmt.startswith("yuv"):
            video.codec_context.colorspace = colorspace
            video.codec_context.color_range = color_range
        if rotation or mirrored:
            video.set_display_rotation(-rotation, hflip=mirrored)
        sounds = []
        for _ in range(sound_tracks if tone and sound_codec else 0):
            sounds.append(out.add_stream(sound_codec, SAMPLE_RATE, _PRESETS.get(sound_codec)))
        reformatter = VideoReformatter()
        sample = 0
        for index, time in enumerate(times):
            image = picture(index, size) if color is None else np.full(size[::-1] + (3,), color)
            if event_s is not None and time * time_base < event_s - 1e-6:
                image = np.zeros_like(image)
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(image.astype(np.uint8), "rgb24"),
                format=pix_fmt,
                dst_colorspace=_SWS_MATRIX.get(colorspace, 5),
                src_color_range=ColorRange.JPEG,
                dst_color_range=color_range,
            )
            frame.pts, frame.time_base = time, time_base
            frame.duration = 0
            out.mux(video.encode(frame))
            end = round(
                ((time + 1 / fps / time_base) * time_base - Fraction(start_s)) * SAMPLE_RATE
            )
            for sound in sounds:
                out.mux(sound.encode(tone_frame(sample, end - sample, start_s, event_s)))
            sample = end
        for stream in (video, *sounds):
            out.mux(stream.encode(None))
    return path


def tone_frame(
    start: int, samples: int, start_s: float = 0, event_s: float | None = None
) -> av.AudioFrame:
    """Return `samples` of the tone in stereo, from sample `start` on, silent until the event."""
    numbers = np.arange(start, start + samples)
    wave = np.sin(2 * np.pi * TONE_HZ * numbers / SAMPLE_RATE)
    if event_s is not None:
        wave *= numbers >= (event_s - start_s) * SAMPLE_RATE
    both = np.repeat((wave * 8000).astype(np.int16), 2).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
    frame.sample_rate = SAMPLE_RATE
    frame.pts = start + round(start_s * SAMPLE_RATE)
    frame.time_base = Fraction(1, SAMPLE_RATE)
    return frame


def make_sound_only(path: Path, seconds: float = 0.5) -> Path:
    """Write an MP4 with a tone and no video."""
    with av.open(str(path), "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=SAMPLE_RATE)
        out.mux(sound.encode(tone_frame(0, round(seconds * SAMPLE_RATE))))
        out.mux(sound.encode(None))
    return path


def make_concat_script(path: Path, target: Path) -> Path:
    """Write an ffconcat script, under any name, that asks for another file."""
    path.write_text(f"ffconcat version 1.0\nfile {target}\n")
    return path


def make_playlist(path: Path, target: Path) -> Path:
    """Write an HLS playlist, under any name, that asks for another file."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", str(target), "#EXT-X-ENDLIST"]
    path.write_text("\n".join(lines) + "\n")
    return path


def truncate(path: Path, source: Path, fraction: float) -> Path:
    """Write the first part of a file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path
