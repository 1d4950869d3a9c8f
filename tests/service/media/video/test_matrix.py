"""What we read and write of generated clips, compared with FFmpeg's own decode in a process apart.

Frame counts, times, colours and audio, over codecs x containers x rates x colours x audio layouts.
"""

import itertools
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from service.media.video.writing.encoders import h264
from service.media.video.writing.frames_writer import FramesWriter
from service.media.video.writing.writer import VideoWriter
from tests import clips
from tests.helpers import ROOT
from tests.video_copies import read_clip
from tests.videos import read_cutouts

pytestmark = pytest.mark.slow
SIZE = (96, 64)
CONTAINERS = {
    "mp4": ("libx264", "libx265", "mpeg4"),
    "mov": ("libx264", "prores_ks", "mjpeg"),
    "mkv": ("libx264", "libx265", "libvpx-vp9", "mpeg4"),
    "webm": ("libvpx", "libvpx-vp9"),
    "ts": ("libx264", "mpeg2video"),
    "avi": ("mpeg4", "mjpeg"),
    "flv": ("libx264", "flv"),
}
SOUNDS = {"mp4": "aac", "mov": "pcm_s16le", "mkv": "ac3", "webm": "libopus", "ts": "mp2"}
SOUNDS |= {"avi": "pcm_s16le", "flv": "aac"}
RATES = {"constant": None, "ntsc": "ntsc", "variable": "variable"}
COLOURS = {
    "bt709": (1, ColorRange.MPEG),
    "bt601": (6, ColorRange.MPEG),
    "full": (1, ColorRange.JPEG),
}
LAYOUTS = ("mono", "stereo", "5.1")
PIXELS = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}
# FFmpeg's own decode: times, the mean colour of each picture, and how much audio there is.
REFERENCE = """
import json, sys
import av, numpy as np
from av.video.reformatter import ColorRange, Interpolation
path, matrix, full = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "full"
told = {"times": [], "means": [], "audio_s": 0.0}
with av.open(path) as file:
    for frame in file.decode(video=0):
        told["times"].append(float(frame.pts * frame.time_base))
        rgb = frame.reformat(
            format="rgb24", src_colorspace={1: 1, 5: 5, 6: 5}[matrix],
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
        ).to_ndarray()
        told["means"].append(rgb.reshape(8, 8, 12, 8, 3).mean((1, 3)).tolist())
with av.open(path) as file:
    stream = file.streams.audio[0]
    # FLV has an empty packet where the codec's parameters come, which PyAV refuses.
    for packet in [*(one for one in file.demux(stream) if one.size), None]:
        for frame in stream.codec_context.decode(packet):
            told["audio_s"] += frame.samples / frame.sample_rate
print(json.dumps(told))
"""


def list_cases() -> list[tuple[str, ...]]:
    """Return every codec in every container, with rates, colours and layouts in turn."""
    pairs = [(name, codec) for name, codecs in CONTAINERS.items() for codec in codecs]
    rest = list(itertools.product(RATES, COLOURS, LAYOUTS))
    return [
        (*pair, *rest[(number * 5 + step * 7) % len(rest)])
        for number, pair in enumerate(pairs)
        for step in range(3)
    ]


def choose_colour(codec: str, colour: str) -> tuple[int, ColorRange]:
    """Return matrix and range that a codec can state: JPEG has one, some know no full range."""
    matrix, range = COLOURS[colour]
    if codec == "mjpeg":
        return 6, ColorRange.JPEG
    return matrix, ColorRange.MPEG if codec in ("prores_ks", "mpeg2video", "mpeg4") else range


def make(path: Path, codec: str, rate: str, colour: str, layout: str) -> Path:
    container = path.suffix[1:]
    frames, (matrix, range) = 24, choose_colour(codec, colour)
    clock = Fraction(1, 1000) if container in ("mkv", "webm") else Fraction(1, 90_000)
    times_s = [Fraction(index, 25) for index in np.arange(frames).tolist()]
    if rate == "ntsc":
        times_s = [Fraction(1001 * index, 30_000) for index in np.arange(frames).tolist()]
    if rate == "variable":
        gaps = np.random.default_rng(1).integers(20, 90, frames)
        times_s = [Fraction(int(ms), 1000) for ms in np.cumsum(gaps) - gaps[0]]
    format = {"mkv": "matroska", "ts": "mpegts"}.get(container, container)
    with av.open(str(path), "w", format=format) as out:
        video = out.add_stream(codec, rate=25, options={"g": "12"} | clips._PRESETS.get(codec, {}))
        (video.width, video.height), video.pix_fmt = SIZE, PIXELS.get(codec, "yuv420p")
        context = video.codec_context
        # MPEG-2 knows fixed rates only, MPEG-4 a clock of 16 bits.
        clocks = {"mpeg2video": Fraction(1, 25), "mpeg4": Fraction(1, 1000)}
        context.time_base = clocks.get(codec, clock)
        context.colorspace, context.color_range = matrix, range
        context.color_primaries = context.color_trc = 1
        sound = out.add_stream(SOUNDS[container], rate=clips.SAMPLE_RATE)
        channels = layout if container != "ts" or layout != "5.1" else "stereo"
        sound.codec_context.layout = channels
        count = av.AudioLayout(channels).nb_channels
        done = 0
        for index, time_s in enumerate(times_s):
            if codec == "mpeg2video":
                time_s = Fraction(index, 25)
            frame = av.VideoFrame.from_ndarray(clips.picture(index, SIZE), "rgb24").reformat(
                format=video.pix_fmt,
                dst_colorspace={1: 1, 6: 5}[matrix],
                src_color_range=ColorRange.JPEG,
                dst_color_range=range,
            )
            frame.pts, frame.time_base = round(time_s / context.time_base), context.time_base
            out.mux(video.encode(frame))
            end = round((time_s + Fraction(1, 25)) * clips.SAMPLE_RATE)
            if end > done:
                wave = clips.tone_frame(done, end - done).to_ndarray()[0, ::2]
                samples = np.repeat(wave, count).reshape(1, -1)
                chunk = av.AudioFrame.from_ndarray(samples, "s16", channels)
                chunk.sample_rate, chunk.pts = clips.SAMPLE_RATE, done
                chunk.time_base = Fraction(1, clips.SAMPLE_RATE)
                out.mux(sound.encode(chunk))
                done = end
        for stream in (video, sound):
            out.mux(stream.encode(None))
    return path


def decode_apart(path: Path, matrix: int, is_full: bool) -> dict:
    command = [sys.executable, "-c", REFERENCE, str(path), str(matrix), "full" if is_full else ""]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("container", "codec", "rate", "colour", "layout"), list_cases())
def test_clip_is_what_ffmpeg_makes_of_it(
    tmp_path, container: str, codec: str, rate: str, colour: str, layout: str
) -> None:
    source = make(tmp_path / f"a.{container}", codec, rate, colour, layout)
    matrix, range = choose_colour(codec, colour)
    truth = decode_apart(source, matrix, range == ColorRange.JPEG)
    clip = read_clip(source)
    assert clip.repairs.describe() == {}
    assert len(clip.frames) == len(truth["times"]) == 24
    raw = [float(frame.pts * clip.info.time_base) for frame in clip.frames]
    assert raw == pytest.approx(truth["times"], abs=0.001)
    colours = [frame.image.reshape(8, 8, 12, 8, 3).mean((1, 3)) for frame in clip.frames]
    assert np.abs(np.array(colours) - np.array(truth["means"])).mean() < 2.5

    result = tmp_path / "b.mp4"
    with VideoWriter(result, clip.info, h264(crf=4)) as writer:
        for packet in clip.packets:
            writer.write_audio(packet)
        for frame in clip.frames:
            writer.write_frame(frame.image, frame.pts, frame.duration)
    written = decode_apart(result, clip.info.colorspace or 1, is_full=False)
    zero_s = float(clip.info.origin_pts * clip.info.time_base)
    assert written["times"] == pytest.approx([time - zero_s for time in raw], abs=0.001)
    assert np.abs(np.array(written["means"]) - np.array(truth["means"])).mean() < 2.5
    assert written["audio_s"] == pytest.approx(truth["audio_s"], abs=0.05)

    pictures = tmp_path / "b.zip"
    with FramesWriter(pictures, clip.info) as files:
        for frame in clip.frames:
            opaque = np.full((*frame.image.shape[:2], 1), 255, np.uint8)
            files.write_frame(np.dstack([frame.image, opaque]), frame.pts, frame.duration)
    assert len(read_cutouts(pictures.read_bytes())) == 24
