"""What of a clip is the same in its results: one row for each kind of clip, three containers."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from service.media.audio.types import CARRIED_AUDIO, AudioPacket
from service.media.video.reader import read_video
from service.media.video.types import ClipSelection, VideoFrame, VideoInfo, VideoLimits
from service.media.video.writing.encoders import PRORES, VP9, h264
from service.media.video.writing.writer import VideoWriter
from tests import clips

LIMITS = VideoLimits(max_frames=36_000, max_duration_s=600, max_frame_megapixels=9, max_side=4096)
ENCODINGS = {"mp4": h264(preset="ultrafast"), "mov": PRORES, "webm": VP9}
MILLISECOND = Fraction(1, 1000)
UNEVEN = {"times": [0, 40, 73, 200, 201, 480, 500, 733], "time_base": MILLISECOND}

CLIPS = {
    "h264.mp4": {},
    "h264-uneven.mp4": UNEVEN,
    "hevc.mp4": {"codec": "libx265"},
    "hevc-10-bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "color_range": ColorRange.JPEG},
    "prores-pcm.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "sound_codec": "pcm_s16le"},
    "ntsc.mov": {"time_base": Fraction(1001, 30_000), "times": range(20)},
    "mp3.mkv": {"sound_codec": "libmp3lame"},
    "uneven-flac.mkv": UNEVEN | {"sound_codec": "flac"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8-late.webm": {"codec": "libvpx", "start_s": 1.2},
    "h264.ts": {},
    "mp2-late.ts": {"sound_codec": "mp2", "start_s": 5},
    "two-tracks.mp4": {"sound_tracks": 2},
    "opus.mp4": {"sound_codec": "libopus"},
    "odd.mp4": {"size": (97, 65), "pix_fmt": "yuv444p"},
    "interlaced.mp4": {"interlaced": True},
    "silent.gif": {},
}


@dataclasses.dataclass(frozen=True)
class Read:
    """A clip as the reader gives it."""

    info: VideoInfo
    frames: list[VideoFrame]
    packets: list[AudioPacket]

    @property
    def times(self) -> list[Fraction]:
        """When frames are shown, in seconds from what a player calls zero."""
        return [(frame.pts - self.info.origin_pts) * self.info.time_base for frame in self.frames]

    @property
    def length_s(self) -> Fraction:
        """How long frames are shown; the last one of a Matroska file without a duration: 33 ms."""
        last = self.frames[-1].duration
        last_s = Fraction(1, 30) if last is None else last * self.info.time_base
        return self.times[-1] - self.times[0] + last_s


def read(path: Path, wanted: ClipSelection) -> Read:
    with path.open("rb") as file:
        info, *items, _ = read_video(file, LIMITS, wanted)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    return Read(info, frames, [item for item in items if isinstance(item, AudioPacket)])


def write(clip: Read, target: Path, container: str) -> VideoWriter:
    """Write the clip as the service does, opaque where there is alpha."""
    encoding = ENCODINGS[container]
    with VideoWriter(target, clip.info, encoding) as writer:
        for packet in clip.packets:
            writer.write_audio(packet)
        for frame in clip.frames:
            image = frame.image
            if encoding.channels == 4:
                image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
            writer.write_frame(image, frame.pts, frame.duration)
    return writer


@pytest.mark.parametrize("container", ENCODINGS)
@pytest.mark.parametrize("name", CLIPS)
def test_result_keeps_what_the_clip_has(tmp_path: Path, name: str, container: str) -> None:
    source = clips.make_clip(tmp_path / name, **({"seconds": 0.7} | CLIPS[name]))
    before = read(source, ClipSelection(audio=(container,)))
    target = tmp_path / f"result.{container}"
    writer = write(before, target, container)
    after = read(target, ClipSelection(audio=(container,)))

    clock_s = MILLISECOND / 2 if container == "webm" else 0
    assert len(before.times) == len(after.times) == len(before.frames)
    assert all(abs(b - a) <= clock_s for b, a in zip(before.times, after.times, strict=True))
    assert (after.info.width, after.info.height) == (writer.width, writer.height)
    assert writer.padded == ((1, 1) if name.startswith("odd") else (0, 0))
    assert abs(before.length_s - after.length_s) <= (MILLISECOND if container == "webm" else 0)
    matrix = before.info.colorspace or 6
    if container == "mov" and matrix == 5:
        matrix = 6  # the same numbers, and the one of the two that ProRes can state
    colours = after.info.color_primaries, after.info.color_trc, after.info.colorspace
    assert colours == (1, 1, matrix), "unstated primaries become BT.709"
    assert after.info.color_range == ColorRange.MPEG
    pictures = (clip.frames[5].image.astype(int) for clip in (before, after))
    shown = [image[: before.info.height, : before.info.width] for image in pictures]
    assert np.abs(shown[0] - shown[1]).mean() < (16 if name.endswith("gif") else 6)

    kept = after.info.audio
    expected = 0 if name.endswith("gif") else CLIPS[name].get("sound_tracks", 1)
    assert len(kept) == len(before.info.audio) == expected
    for track, result in zip(before.info.audio, kept, strict=True):
        assert result.codec == track.codec and track.codec in CARRIED_AUDIO[container]
    sound = [[p.data for p in sorted(c.packets, key=lambda p: p.track)] for c in (before, after)]
    assert sound[0] == sound[1]


@pytest.mark.parametrize(
    ("sound_codec", "copied_by"),
    [
        ("aac", {"mp4", "mov"}),
        ("libmp3lame", {"mp4", "mov"}),
        ("ac3", {"mp4", "mov"}),
        ("alac", {"mp4", "mov"}),
        ("libopus", {"mp4", "webm"}),
        ("flac", {"mp4"}),
        ("vorbis", set()),
        ("pcm_s16le", set()),
    ],
)
def test_sound_is_copied_where_the_container_carries_it(tmp_path, sound_codec, copied_by) -> None:
    path = clips.make_clip(tmp_path / "a.mkv", seconds=0.5, sound_codec=sound_codec)
    clip = read(path, ClipSelection(audio=("mp4", "mov", "webm")))
    copied = {name for t in clip.info.audio if not t.reencoded_from for name in t.containers}
    served = sorted(name for track in clip.info.audio for name in track.containers)
    assert copied == copied_by and served == ["mov", "mp4", "webm"]
    for track in clip.info.audio:
        times = [packet.pts for packet in clip.packets if packet.track == track.index]
        assert (times[-1] - times[0]) * track.time_base == pytest.approx(0.45, abs=0.1)


def find_event(path: Path) -> tuple[float, float]:
    """Return when a file becomes bright and when it becomes loud, in seconds."""
    with av.open(str(path)) as container:
        seen = next(
            f.time for f in container.decode(video=0) if f.to_ndarray(format="gray").mean() > 60
        )
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            wave = np.abs(frame.to_ndarray().astype(np.float64))
            wave = wave.max(axis=0) / (1 if frame.format.is_planar and wave.max() <= 2 else 32768)
            loud = np.flatnonzero(wave > 0.05)
            if loud.size:
                channels = 1 if frame.format.is_planar else 2
                return seen, frame.time + loud[0] / channels / frame.sample_rate
    raise AssertionError("it is silent")


@pytest.mark.parametrize("start_s", [0.0, 0.25])
@pytest.mark.parametrize("container", ENCODINGS)
@pytest.mark.parametrize(
    "name", ["aac.mp4", "opus.mp4", "mp3.mkv", "pcm.mov", "aac.ts", "opus.webm", "late.mp4"]
)
def test_sight_and_sound_stay_together(tmp_path, name: str, container: str, start_s) -> None:
    sound = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame", "pcm": "pcm_s16le"}
    late_s = 0.5 if name.startswith("late") else 0
    source = clips.make_clip(
        tmp_path / name,
        seconds=1,
        fps=20,
        codec="libvpx" if name.endswith("webm") else "libx264",
        sound_codec=sound.get(name.partition(".")[0], "aac"),
        start_s=late_s,
        event_s=0.6 + late_s,
    )
    clip = read(source, ClipSelection((container,), start_s=start_s and start_s + late_s))
    target = tmp_path / f"result.{container}"
    write(clip, target, container)
    seen_s, heard_s = find_event(target)
    first = next(index for index, frame in enumerate(clip.frames) if frame.image.mean() > 60)
    assert seen_s == pytest.approx(float(clip.times[first]), abs=0.002)
    assert heard_s == pytest.approx(seen_s, abs=1 / 20)
    assert (clip.times[0] == 0) == (start_s > 0 or late_s == 0 and not name.endswith("ts"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("yuv420p", 8, False)),
        ({"pix_fmt": "yuv420p10le"}, ("yuv420p10le", 10, False)),
        ({"codec": "libx265", "pix_fmt": "yuv422p10le"}, ("yuv422p10le", 10, False)),
        ({"interlaced": True}, ("yuv420p", 8, True)),
    ],
)
def test_depth_and_interlacing_are_told(tmp_path, options, expected) -> None:
    info = read(clips.make_clip(tmp_path / "a.mkv", seconds=0.2, **options), ClipSelection()).info
    assert (info.pixel_format, info.bit_depth, info.interlaced) == expected


@pytest.mark.parametrize("container", ENCODINGS)
@pytest.mark.parametrize("rotation", [0, 90])
def test_pixel_shape_is_kept_and_turns_with_the_picture(tmp_path, container, rotation) -> None:
    shape = Fraction(4, 3)
    source = clips.make_clip(
        tmp_path / "a.mp4", seconds=0.2, sample_aspect_ratio=shape, rotation=rotation
    )
    clip = read(source, ClipSelection())
    target = tmp_path / f"result.{container}"
    write(clip, target, container)
    after = read(target, ClipSelection()).info
    assert (after.rotation_deg, clip.info.rotation_deg) == (0, rotation)
    if container == "webm":  # which has square pixels only
        assert (after.width, after.height) == ((64, 128) if rotation else (128, 64))
        assert after.sample_aspect_ratio == 1
    else:
        assert (after.width, after.height) == ((64, 96) if rotation else (96, 64))
        assert after.sample_aspect_ratio == (1 / shape if rotation else shape)


@pytest.mark.parametrize("container", ENCODINGS)
def test_stated_colours_are_kept(tmp_path, container: str) -> None:
    info = read(clips.make_clip(tmp_path / "a.mp4", seconds=0.2), ClipSelection())
    stated = dataclasses.replace(info.info, colorspace=9, color_primaries=9, color_trc=16)
    target = tmp_path / f"result.{container}"
    write(dataclasses.replace(info, info=stated), target, container)
    with av.open(str(target)) as file:  # our own reader would tone-map it
        frame = next(file.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (9, 9, 16)
