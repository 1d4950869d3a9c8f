import dataclasses
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from service.media.audio.types import TrackLabels
from service.media.video.types import ClipSelection
from service.media.video.writing.encoders import PRESETS, h264
from service.media.video.writing.writer import VideoWriter
from tests import clips
from tests.video_copies import INFO, copy, read, seconds


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b-frames.mp4", {"fps": 60}),
        ("late.mp4", {"start_s": 1.4}),
        ("ntsc.mp4", {"time_base": Fraction(1001, 30_000), "times": range(20)}),
        ("uneven.mp4", {"time_base": Fraction(1, 1000), "times": [0, 100, 250, 251, 700, 1500]}),
        ("uneven.mkv", {"time_base": Fraction(1, 1000), "times": [7, 100, 250, 251, 9000]}),
        ("one-frame.mp4", {"times": [0]}),
        ("slow.mp4", {"fps": 1, "seconds": 4}),
        ("fast.mp4", {"fps": 240, "seconds": 0.2}),
        ("a.mov", {"sound_codec": "pcm_s16le"}),
        ("a.mkv", {"sound_codec": "libmp3lame"}),
        ("flac.mkv", {"sound_codec": "flac"}),
        ("alac.mkv", {"sound_codec": "alac"}),
        ("vorbis.mkv", {"sound_codec": "vorbis"}),
        ("a.webm", {"codec": "libvpx"}),
        ("ac3.mp4", {"sound_codec": "ac3"}),
        ("eac3.mp4", {"sound_codec": "eac3"}),
        ("opus.mp4", {"sound_codec": "libopus"}),
        ("alac.mp4", {"sound_codec": "alac"}),
        ("three.mp4", {"sound_tracks": 3}),
        ("silent.mp4", {"tone": False}),
        ("a.gif", {}),
        ("a.ts", {}),
        ("days.ts", {"start_s": 50_000}),
        ("cut-from-live.mp4", {"start_s": 5000}),
    ],
)
def test_copy_keeps_frames_times_and_sound_bytes(tmp_path, name, options):
    source = clips.make_clip(tmp_path / name, **({"seconds": 0.7} | options))
    target = tmp_path / "result.mp4"
    copy(source, target)
    info, frames, packets = read(source)
    result, result_frames, result_packets = read(target)
    origin = info.origin_pts * info.time_base
    assert [time - origin for time in seconds(frames, info)] == seconds(result_frames, result)
    if source.suffix != ".ts" and name != "cut-from-live.mp4":
        assert origin == 0
    if source.suffix == ".mp4":
        assert info.time_base == result.time_base
    assert [packet.data for packet in packets] == [packet.data for packet in result_packets]
    assert [track.codec for track in info.audio] == [track.codec for track in result.audio]
    for track, result_track in zip(info.audio, result.audio, strict=True):
        before = [p.pts * track.time_base - origin for p in packets if p.track == track.index]
        after = [p.pts * result_track.time_base for p in result_packets if p.track == track.index]
        ticks = track.time_base + Fraction(1, track.sample_rate)
        assert max(abs(b - a) for b, a in zip(before, after, strict=True)) <= ticks


@pytest.mark.parametrize("sound_codec", ["aac", "libmp3lame", "libopus", "alac", "ac3"])
def test_copied_sound_decodes_to_the_same_samples(tmp_path, sound_codec):
    source = clips.make_clip(tmp_path / "a.mp4", sound_codec=sound_codec)
    target = tmp_path / "result.mp4"
    copy(source, target)
    waves = []
    for path in (source, target):
        with av.open(str(path)) as container:
            frames = list(container.decode(audio=0))
            assert frames[0].time == pytest.approx(0, abs=0.001)
            waves.append(np.concatenate([frame.to_ndarray() for frame in frames], axis=-1))
    assert np.array_equal(*waves)


def test_last_frame_keeps_its_duration(tmp_path):
    target = tmp_path / "result.mp4"
    info = dataclasses.replace(INFO, time_base=Fraction(1, 1000))
    with VideoWriter(target, info) as writer:
        for index, (pts, duration) in enumerate([(0, 40), (40, 60), (100, 900)]):
            writer.write_frame(clips.picture(index, (96, 64)), pts, duration)
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == 1


@pytest.mark.parametrize("size", [(96, 64), (95, 63)])
def test_grey_frames_are_what_their_rgb_is(tmp_path, size):
    width, height = size
    ramp = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    grey = (ramp * 255 // ramp.max()).astype(np.uint8)
    info = dataclasses.replace(INFO, width=width, height=height)
    coded = []
    for name, image in (("grey.mp4", grey), ("rgb.mp4", np.dstack([grey] * 3))):
        with VideoWriter(tmp_path / name, info, h264(crf=1)) as writer:
            coded.append(writer._to_yuv(image).to_ndarray().astype(int))
            writer.write_frame(image, 0, 1)
        result, (frame,), _ = read(tmp_path / name)
        assert (result.color_range, result.colorspace) == (ColorRange.MPEG, info.colorspace)
        decoded = frame.image.astype(int)[:height, :width]
        np.testing.assert_allclose(decoded, np.dstack([grey] * 3), atol=4)
    np.testing.assert_allclose(coded[0], coded[1], atol=1)  # before the encoder's own losses


def test_clip_that_starts_before_zero_begins_at_zero(tmp_path):
    target = tmp_path / "result.mp4"
    info = dataclasses.replace(INFO, origin_pts=-30)
    with VideoWriter(target, info) as writer:
        for index in range(-30, -20):
            writer.write_frame(clips.picture(0, (96, 64)), index, 1)
    result, frames, _ = read(target)
    assert seconds(frames, result) == [Fraction(n, 30) for n in range(10)]


def test_clock_finer_than_mp4_is_rounded(tmp_path):
    target = tmp_path / "result.mp4"
    info = dataclasses.replace(INFO, time_base=Fraction(1, 1_000_000_000))
    with VideoWriter(target, info) as writer:
        for pts in (0, 1, 33_333_333, 66_666_667):
            writer.write_frame(clips.picture(0, (96, 64)), pts, None)
    result, frames, _ = read(target)
    assert [round(t * 1_000_000) for t in seconds(frames, result)] == [0, 1, 33_333, 66_667]


@pytest.mark.parametrize("size", [(n, n) for n in range(1, 18)] + [(1, 16), (33, 2), (97, 64)])
def test_odd_sizes_are_padded_to_even(tmp_path, size):
    width, height = size
    target = tmp_path / "result.mp4"
    image = clips.picture(0, (96, 64))[:height, :width]
    image = np.ascontiguousarray(np.resize(image, (height, width, 3)))
    info = dataclasses.replace(INFO, width=width, height=height)
    with VideoWriter(target, info) as writer:
        for pts in range(3):
            writer.write_frame(image, pts, 1)
    assert writer.padded == (width % 2, height % 2)
    result, frames, _ = read(target)
    assert (result.width, result.height) == (writer.width, writer.height)
    assert writer.width % 2 == writer.height % 2 == 0
    assert len(frames) == 3


@pytest.mark.parametrize("color", [(200, 40, 30), (30, 180, 60), (20, 60, 210), (240, 220, 190)])
@pytest.mark.parametrize("colorspace", [1, 6, 2, 9])
def test_colours_come_back(tmp_path, color, colorspace):
    source, target = tmp_path / "a.mp4", tmp_path / "result.mp4"
    clips.make_clip(
        source, seconds=0.2, color=color, colorspace=colorspace, color_range=ColorRange.MPEG
    )
    copy(source, target)
    before, frames, _ = read(source)
    after, result_frames, _ = read(target)
    assert np.abs(frames[0].image.astype(int) - result_frames[0].image).max() <= 3
    assert (after.colorspace, after.color_range) == (before.colorspace, ColorRange.MPEG)
    assert (after.color_primaries, after.color_trc) == (1, 1)


def test_stated_colour_tags_are_kept(tmp_path):
    target = tmp_path / "result.mp4"
    info = dataclasses.replace(INFO, colorspace=9, color_primaries=9, color_trc=16)
    with VideoWriter(target, info) as writer:
        writer.write_frame(clips.picture(0, (96, 64)), 0, 1)
    with av.open(str(target)) as file:  # our own reader would tone-map it
        frame = next(file.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (9, 9, 16)


def test_pixel_shape_and_language_are_kept(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "result.mp4"
    clips.make_clip(source, seconds=0.2, sample_aspect_ratio=Fraction(4, 3))
    info, frames, packets = read(source)
    track = dataclasses.replace(info.audio[0], labels=TrackLabels("eng", "Commentary", True, True))
    with VideoWriter(target, dataclasses.replace(info, audio=(track,))) as writer:
        writer.write_frame(frames[0].image, 0, frames[0].duration)
        writer.write_audio(packets[0])
    result, _, _ = read(target)
    assert result.sample_aspect_ratio == Fraction(4, 3)
    assert result.audio[0].labels == track.labels


def test_sound_can_be_left_out(tmp_path):
    source, target = clips.make_clip(tmp_path / "a.mp4"), tmp_path / "result.mp4"
    copy(source, target, ClipSelection(audio=()))
    assert read(target)[0].audio == ()


def test_index_comes_before_the_frames(tmp_path):
    source, target = clips.make_clip(tmp_path / "a.mp4"), tmp_path / "result.mp4"
    copy(source, target)
    data = target.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_lower_crf_gives_a_closer_and_larger_picture(tmp_path):
    source = clips.make_clip(tmp_path / "a.mp4", seconds=0.3, tone=False)
    errors, sizes = [], []
    _, frames, _ = read(source)
    for crf in (5, 40):
        target = tmp_path / f"{crf}.mp4"
        copy(source, target, crf=crf)
        _, result, _ = read(target)
        errors.append(np.abs(frames[3].image.astype(int) - result[3].image).mean())
        sizes.append(target.stat().st_size)
    assert errors[0] < errors[1]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_writes(tmp_path, preset):
    target = tmp_path / "result.mp4"
    with VideoWriter(target, INFO, h264(preset=preset), threads=1) as writer:
        for pts in range(3):
            writer.write_frame(clips.picture(pts, (96, 64)), pts, 1)
    assert len(read(target)[1]) == 3


def test_sound_that_stands_still_in_time_is_moved_on(tmp_path):
    source = clips.make_clip(tmp_path / "a.mp4", seconds=0.3)
    info, frames, packets = read(source)
    with VideoWriter(tmp_path / "result.mp4", info) as writer:
        writer.write_frame(frames[0].image, 0, frames[0].duration)
        for packet in packets:
            writer.write_audio(dataclasses.replace(packet, pts=0, dts=0))
    _, _, result = read(tmp_path / "result.mp4")
    assert [packet.data for packet in result] == [packet.data for packet in packets]


@pytest.mark.parametrize(
    ("codec", "samples"), [("libmp3lame", 1152), ("aac", 1024), ("libopus", 960)]
)
def test_sound_of_a_millisecond_clock_is_even_again(tmp_path, codec, samples):
    source, target = tmp_path / "a.mkv", tmp_path / "result.mp4"
    clips.make_clip(source, seconds=3, sound_codec=codec)
    copy(source, target)
    pts = [packet.pts for packet in read(target)[2]]
    assert set(np.diff(pts).tolist()) == {samples}
