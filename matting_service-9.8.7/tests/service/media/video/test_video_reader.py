import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from service.media.video.reader import read_video
from service.media.video.types import (
    UndecodableVideo,
    VideoInfo,
    VideoLimitExceeded,
    VideoLimits,
)
from tests import clips
from tests.video_copies import LIMITS, read_clip


def read(path: Path, limits: VideoLimits = LIMITS):
    """Return info, frames and packets of a clip."""
    clip = read_clip(path, limits=limits)
    return clip.info, clip.frames, clip.packets


def decode_pts(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [frame.pts for frame in container.decode(video=0)]


def demux_sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b-frames.mp4", {"fps": 60}),
        ("late.mp4", {"start_s": 1.4}),
        ("fragmented.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("a.mov", {}),
        ("a.mkv", {"sound_codec": "libmp3lame"}),
        ("hevc.mkv", {"codec": "libx265", "options": {}}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("vp8.webm", {"codec": "libvpx"}),
        ("a.ts", {"sound_codec": "libmp3lame"}),
        ("a.gif", {}),
        ("odd.mp4", {"size": (97, 65), "pix_fmt": "yuv444p"}),
        ("ten-bit.mkv", {"codec": "libx264", "pix_fmt": "yuv420p10le"}),
    ],
)
def test_every_frame_time_and_sound_packet_of_a_clip_is_read(tmp_path, name, options):
    path = clips.make_clip(tmp_path / name, seconds=0.5, **options)
    info, frames, packets = read(path)
    width, height = options.get("size", (96, 64))
    assert (info.width, info.height) == (width, height)
    assert [frame.pts for frame in frames] == decode_pts(path)
    assert len(frames) == 0.5 * options.get("fps", 30)
    assert {frame.image.shape for frame in frames} == {(height, width, 3)}
    if name != "a.gif":
        assert [packet.data for packet in packets] == demux_sound(path)
    if name != "a.gif":  # 256 colours
        difference = np.abs(frames[5].image.astype(int) - clips.picture(5, (width, height)))
        assert difference.mean() < 8


def test_uneven_times_are_kept(tmp_path):
    times = [0, 100, 250, 251, 700, 1500]
    path = clips.make_clip(tmp_path / "a.mkv", times=times, time_base=Fraction(1, 1000), tone=False)
    info, frames, _ = read(path)
    assert info.time_base == Fraction(1, 1000)
    assert [frame.pts for frame in frames] == times


def test_adts_sound_loses_its_headers_only(tmp_path):
    info, _, packets = read(clips.make_clip(tmp_path / "a.ts"))
    raw = demux_sound(tmp_path / "a.ts")
    assert [packet.data for packet in packets] == [data[7:] for data in raw]
    assert info.audio[0].extradata == b"\x11\x90"  # AAC-LC, 48 kHz, stereo


@pytest.mark.parametrize(
    ("name", "sound_codec"), [("a.mov", "pcm_s16le"), ("a.mkv", "vorbis"), ("a.ts", "mp2")]
)
def test_sound_that_mp4_cannot_carry_becomes_aac(tmp_path, name, sound_codec):
    info, _, packets = read(clips.make_clip(tmp_path / name, sound_codec=sound_codec))
    track = info.audio[0]
    assert (track.codec, track.reencoded_from) == ("aac", sound_codec)
    seconds = sum(packet.duration for packet in packets) * track.time_base
    assert seconds == pytest.approx(1, abs=0.05)
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = track.extradata
    wave = [decoder.decode(av.Packet(packet.data)) for packet in packets[5:20]]
    assert max(np.abs(frame.to_ndarray()).max() for frames in wave for frame in frames) > 0.2


def test_every_sound_track_is_read(tmp_path):
    info, _, packets = read(clips.make_clip(tmp_path / "a.mp4", sound_tracks=3))
    assert [track.index for track in info.audio] == [0, 1, 2]
    assert {packet.track for packet in packets} == {0, 1, 2}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_applied_to_the_pixels(tmp_path, rotation, mirrored):
    path = tmp_path / "a.mp4"
    clips.make_clip(path, seconds=0.1, rotation=rotation, mirrored=mirrored)
    info, frames, _ = read(path)
    upright = np.rot90(clips.picture(0, (96, 64)), -rotation // 90)
    if mirrored:
        upright = upright[:, ::-1]
    turn_after_flip = -rotation % 360 if mirrored else rotation
    assert (info.rotation_deg, info.mirrored) == (turn_after_flip, mirrored)
    assert (info.height, info.width) == upright.shape[:2]
    assert np.abs(frames[0].image.astype(int) - upright).mean() < 8


def test_pixel_shape_turns_with_the_picture(tmp_path):
    path = tmp_path / "a.mp4"
    clips.make_clip(path, seconds=0.1, rotation=90, sample_aspect_ratio=Fraction(4, 3))
    assert read(path)[0].sample_aspect_ratio == Fraction(3, 4)


@pytest.mark.parametrize("color", [(200, 40, 30), (30, 180, 60), (20, 60, 210), (240, 220, 190)])
@pytest.mark.parametrize(
    ("colorspace", "color_range", "pix_fmt"),
    [
        (6, ColorRange.MPEG, "yuv420p"),
        (1, ColorRange.MPEG, "yuv420p"),
        (2, ColorRange.MPEG, "yuv420p"),
        (6, ColorRange.JPEG, "yuvj420p"),
        (1, ColorRange.JPEG, "yuv420p"),
        (1, ColorRange.MPEG, "yuv420p10le"),
    ],
)
def test_colours_follow_the_matrix_and_range(tmp_path, color, colorspace, color_range, pix_fmt):
    path = tmp_path / "a.mp4"
    clips.make_clip(
        path,
        seconds=0.1,
        color=color,
        colorspace=colorspace,
        color_range=color_range,
        pix_fmt=pix_fmt,
    )
    _, frames, _ = read(path)
    assert np.abs(frames[0].image.astype(int) - color).max() <= 3


def test_change_of_size_on_the_way_is_scaled_to_the_first(tmp_path):
    path = tmp_path / "a.ts"
    for name, size in (("small.ts", (96, 64)), ("large.ts", (192, 128))):
        clips.make_clip(tmp_path / name, seconds=0.2, size=size, tone=False)
    path.write_bytes((tmp_path / "small.ts").read_bytes() + (tmp_path / "large.ts").read_bytes())
    info, frames, _ = read(path)
    assert (info.width, info.height) == (96, 64)
    assert len(frames) == 12
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    pts = [frame.pts for frame in frames]
    assert pts == sorted(set(pts))


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
@pytest.mark.parametrize("fraction", [0.4, 0.8])
def test_clip_cut_short_yields_what_decodes(tmp_path, name, fraction):
    whole = clips.make_clip(
        tmp_path / name, seconds=1, options={"movflags": "faststart"} if name == "a.mp4" else {}
    )
    short = clips.truncate(tmp_path / f"short{whole.suffix}", whole, fraction)
    _, frames, _ = read(short)
    assert 3 < len(frames) < 30


@pytest.mark.parametrize("make", [clips.make_concat_script, clips.make_playlist])
@pytest.mark.parametrize("name", ["a.mp4", "a.ffconcat", "a.m3u8"])
def test_script_that_names_another_file_is_refused(tmp_path, make, name):
    target = clips.make_clip(tmp_path / "secret.ts", seconds=0.2)
    path = make(tmp_path / name, target)
    with pytest.raises(UndecodableVideo, match="not a complete MP4"):
        read(path)


def test_file_object_may_have_any_name(tmp_path):
    file = io.BytesIO(clips.make_clip(tmp_path / "a.mp4", seconds=0.1).read_bytes())
    file.name = "playlist.m3u8"
    assert isinstance(next(read_video(file, LIMITS)), VideoInfo)


@pytest.mark.parametrize("data", [b"", b"x", bytes(5000), b"GIF89a", b"\x1aE\xdf\xa3"])
def test_bytes_that_are_no_video_are_refused(data):
    with pytest.raises(UndecodableVideo):
        list(read_video(io.BytesIO(data), LIMITS))


def test_sound_without_video_is_refused(tmp_path):
    with pytest.raises(UndecodableVideo, match="no video track"):
        read(clips.make_sound_only(tmp_path / "a.mp4"))


def test_cover_picture_is_not_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=clips.SAMPLE_RATE)
        picture = av.VideoFrame.from_ndarray(clips.picture(0, (64, 64)), "rgb24")
        out.mux(cover.encode(picture.reformat(format="yuvj420p")))
        out.mux(sound.encode(clips.tone_frame(0, 4096)))
        for stream in (cover, sound):
            out.mux(stream.encode(None))
    with pytest.raises(UndecodableVideo, match="no video track"):
        read(path)


def test_damaged_clips_end_in_our_errors_only(tmp_path):
    source = clips.make_clip(tmp_path / "a.mp4", seconds=0.3).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(source)
        for position in random.integers(0, len(data), random.integers(1, 40)):
            data[position] = random.integers(0, 256)
        try:
            list(read_video(io.BytesIO(bytes(data)), LIMITS))
        except (UndecodableVideo, VideoLimitExceeded):
            pass


@pytest.mark.parametrize(
    ("what", "limits"),
    [
        ("frames", VideoLimits(29, 600, 9, 4096)),
        ("seconds", VideoLimits(30, 0.9, 9, 4096)),
        ("megapixels", VideoLimits(30, 600, 0.006, 4096)),
        ("side", VideoLimits(30, 600, 9, 95)),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_clip_beyond_a_limit_is_refused(tmp_path, name, what, limits):
    path = clips.make_clip(tmp_path / name, tone=False)
    with pytest.raises(VideoLimitExceeded) as caught:
        read(path, limits)
    assert caught.value.what == what
    assert caught.value.actual > caught.value.limit


def test_clip_at_the_limits_is_read(tmp_path):
    path = clips.make_clip(tmp_path / "a.mp4")
    assert len(read(path, VideoLimits(30, 1, 0.006144, 96))[1]) == 30


def test_frames_come_until_the_cap(tmp_path):
    path = clips.make_clip(tmp_path / "a.mp4", tone=False)
    seen = []
    with path.open("rb") as file, pytest.raises(VideoLimitExceeded):
        for item in read_video(file, VideoLimits(10, 600, 9, 4096)):
            seen.append(item)
    assert len(seen) == 1 + 10


def test_gap_of_hours_is_too_long(tmp_path):
    path = clips.make_clip(
        tmp_path / "a.mkv", times=[0, 33, 36_000_000], time_base=Fraction(1, 1000), tone=False
    )
    with pytest.raises(VideoLimitExceeded, match="seconds"):
        read(path)
