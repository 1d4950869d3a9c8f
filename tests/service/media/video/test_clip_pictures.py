"""Pictures of clips, each kind with the right value: colours, shapes, tracks, containers."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from service.media.video.types import (
    ClipSelection,
    UndecodableVideo,
    UnsupportedVideo,
    VideoInfo,
)
from tests import clip_kinds, clips
from tests.clip_kinds import flat, write_pictures
from tests.video_copies import read_clip


def test_rate_that_is_only_a_clock(tmp_path) -> None:
    """As MediaRecorder writes: a time for each block, no rate."""
    times = [0, 33, 67, 100, 133, 167, 200]
    images = [clips.picture(index, (96, 64)) for index in range(len(times))]
    path = write_pictures(tmp_path / "a.webm", images, codec="libvpx", fps=1000, times_ms=times)
    clip = read_clip(path)
    assert clip.info.average_rate == 30
    one = write_pictures(tmp_path / "b.webm", images[:1], codec="libvpx", fps=1000, times_ms=[0])
    clip = read_clip(one)
    assert clip.info.average_rate is None and clip.frames[0].duration is None


@pytest.mark.parametrize("full", [True, False])
def test_colour_that_only_the_container_knows(tmp_path, full: bool) -> None:
    range = ColorRange.JPEG if full else ColorRange.MPEG
    path = clips.make_clip(
        tmp_path / "a.webm",
        codec="libvpx",
        seconds=0.2,
        color=(32, 32, 32),
        colorspace=1,
        color_range=range,
    )
    clip = read_clip(path)
    assert (clip.info.colorspace, clip.info.color_range) == (1, int(range))
    assert np.abs(clip.frames[0].image.astype(int) - 32).max() <= 2


@pytest.mark.parametrize(("transfer", "name"), [(16, "BT.2020 PQ"), (18, "BT.2020 HLG")])
def test_hdr_is_tone_mapped(tmp_path, transfer: int, name: str) -> None:
    """Reference white, 203 nit: 0.58 of PQ and 0.75 of HLG (BT.2408)."""
    code = round((0.5807 if transfer == 16 else 0.75) * 255)
    path = write_pictures(
        tmp_path / "a.mkv",
        [flat((code, code, code))] * 3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none"},
        prepare=clip_kinds.tag(9, transfer, 9),
    )
    clip = read_clip(path)
    assert clip.info.tone_mapped_from == name and clip.info.bit_depth == 10
    colours = clip.info.color_primaries, clip.info.color_trc, clip.info.colorspace
    assert colours == (1, 1, 1)
    assert 0.85 * 255 <= clip.frames[0].image.min() <= clip.frames[0].image.max() <= 254
    with pytest.raises(UndecodableVideo, match=f"HDR .{name}"):
        read_clip(path, ClipSelection(tone_maps=False))


def test_wide_gamut_becomes_srgb(tmp_path) -> None:
    path = write_pictures(
        tmp_path / "a.mkv",
        [flat((180, 90, 60))] * 2,
        pix_fmt="yuv444p",
        options={"qp": "0"},
        prepare=clip_kinds.tag(9, 1, 9),
    )
    clip = read_clip(path)
    assert clip.info.gamut_converted_from == "BT.2020"
    red, green, _ = clip.frames[0].image[30, 40].astype(int)
    assert red > 190 and green < 90, "the same colour needs more of sRGB"


def test_first_frame_is_smaller_than_the_header_says(tmp_path) -> None:
    clip = read_clip(clip_kinds.grow(tmp_path / "a.webm"))
    assert (clip.info.width, clip.info.height) == (192, 128)
    assert {frame.image.shape for frame in clip.frames} == {(128, 192, 3)}
    assert clip.repairs.frames_resized == 6 and clip.repairs.frames_fitted == 0


def test_change_of_shape_is_fitted(tmp_path) -> None:
    pieces = [
        clips.make_clip(tmp_path / f"{index}.ts", seconds=0.2, size=size, tone=False)
        for index, size in enumerate([(320, 180), (180, 320)])
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    clip = read_clip(path)
    assert {frame.image.shape for frame in clip.frames} == {(180, 320, 3)}
    assert clip.frames[0].box is None
    box = clip.frames[-1].box
    assert box is not None and (box.width, box.height) == (101, 180)
    assert abs(box.left - (320 - 101) / 2) < 1 and box.top == 0
    assert clip.frames[-1].image[:, : box.left].max() == 0
    assert clip.repairs.frames_fitted == 6


@pytest.mark.parametrize("make", [clip_kinds.make_gif, clip_kinds.make_alpha_webm])
def test_transparency_is_read(tmp_path, make) -> None:
    name = "a.gif" if make is clip_kinds.make_gif else "a.webm"
    clip = read_clip(make(tmp_path / name))
    assert clip.info.has_alpha
    for frame in clip.frames:
        assert frame.alpha is not None
        assert frame.alpha[:, :46].min() >= 250 and frame.alpha[:, 50:].max() <= 5
        assert frame.flat[30, 80].min() >= 250, "white, whatever the hidden colour"


def test_opaque_clip_has_no_alpha(tmp_path) -> None:
    clip = read_clip(clips.make_clip(tmp_path / "a.gif", seconds=0.3))
    assert all(frame.alpha is None for frame in clip.frames)


@pytest.mark.parametrize("suffix", ["ts", "mp4"])
def test_kept_fields(tmp_path, suffix: str) -> None:
    path = clips.make_clip(tmp_path / f"a.{suffix}", interlaced=True, seconds=0.5)
    kept = read_clip(path, ClipSelection(deinterlace="off"))
    assert (kept.info.interlaced, kept.info.deinterlaced) == (True, False)
    clip = read_clip(path)
    assert (clip.info.interlaced, clip.info.deinterlaced) == (True, True)
    assert clip.times == kept.times and len(clip.frames) == 15
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize("color", [(200, 40, 30), (30, 180, 60), (20, 60, 210)])
@pytest.mark.parametrize("range", [ColorRange.MPEG, ColorRange.JPEG])
def test_matrix_that_the_converter_does_not_know(tmp_path, color, range) -> None:
    """YCgCo, H.273 equations 47 to 49."""
    red, green, blue = (value / 255 for value in color)
    y, cg, co = (
        (red + 2 * green + blue) / 4,
        (2 * green - red - blue) / 4,
        (red - blue) / 2,
    )
    if range == ColorRange.JPEG:
        planes = [y * 255, cg * 255 + 128, co * 255 + 128]
    else:
        planes = [16 + 219 * y, 128 + 224 * cg, 128 + 224 * co]
    values = np.stack([np.full((64, 96), round(plane), np.uint8) for plane in planes])
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        clip_kinds.tag(1, 1, 8, range)(stream)
        frame = av.VideoFrame.from_ndarray(values, "yuv444p")
        frame.color_range = range
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert np.abs(read_clip(path).frames[0].image.astype(int) - color).max() <= 3


@pytest.mark.parametrize(("matrix", "name"), [(14, "ICtCp"), (10, "constant luminance")])
def test_matrix_that_is_not_read_is_named(tmp_path, matrix: int, name: str) -> None:
    path = write_pictures(
        tmp_path / "a.mkv", [flat((200, 40, 30))], prepare=clip_kinds.tag(9, 1, matrix)
    )
    with pytest.raises(UndecodableVideo, match=name):
        read_clip(path)


@pytest.mark.parametrize("audio", [("mp4",), ("webm",), ()])
def test_zero_is_the_clip_s_own(tmp_path, audio) -> None:
    """The picture begins half a second after the audio, in a container without a zero."""
    path = make_late_picture(tmp_path / "a.ts")
    clip = read_clip(path, ClipSelection(audio=audio))
    assert clip.times[0] == pytest.approx(12, abs=0.05)


def make_late_picture(path):
    with av.open(str(path), "w", format="mpegts") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = out.add_stream("aac", rate=clips.SAMPLE_RATE)
        for second in range(14):
            out.mux(sound.encode(clips.tone_frame(second * clips.SAMPLE_RATE, clips.SAMPLE_RATE)))
            for index in range(25) if second >= 12 else ():
                frame = av.VideoFrame.from_ndarray(clips.picture(index, (96, 64)), "rgb24")
                frame.pts, frame.time_base = second * 25 + index, Fraction(1, 25)
                out.mux(video.encode(frame))
        for stream in (video, sound):
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("default", [0, 1, None])
def test_default_track_is_read_else_the_largest(tmp_path, default) -> None:
    path = tmp_path / "a.mkv"
    sizes = [(96, 54), (320, 180)]
    with av.open(str(path), "w") as out:
        streams = []
        for index, size in enumerate(sizes):
            stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
            is_default = index == default
            stream.disposition = av.stream.Disposition.default if is_default else 0
            streams.append((stream, size))
        for index in range(5):
            for stream, size in streams:
                frame = av.VideoFrame.from_ndarray(clips.picture(index, size), "rgb24")
                frame.pts = index
                out.mux(stream.encode(frame))
        for stream, _ in streams:
            out.mux(stream.encode(None))
    clip = read_clip(path)
    assert (clip.info.width, clip.info.height) == sizes[1 if default is None else default]
    assert clip.repairs.describe() == {"video_tracks_unread": 1}


@pytest.mark.parametrize(
    ("format", "codec", "name"),
    [
        ("asf", "wmv2", "Windows Media"),
        ("mpeg", "mpeg2video", "MPEG program stream"),
        ("mxf", "mpeg2video", "MXF"),
        ("ogg", "libvpx", "Ogg"),
    ],
)
def test_container_that_is_not_read_is_named(tmp_path, format: str, codec: str, name: str) -> None:
    path = tmp_path / "a.bin"
    with av.open(str(path), "w", format=format) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(clips.picture(index, (96, 64)), "rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(UnsupportedVideo, match=f"{name}.*-c copy"):
        read_clip(path)


@pytest.mark.parametrize(
    ("format", "codec", "sound"),
    [("avi", "mpeg4", "libmp3lame"), ("avi", "mjpeg", "pcm_s16le"), ("flv", "libx264", "aac")],
)
def test_avi_and_flv_are_read(tmp_path, format: str, codec: str, sound: str) -> None:
    path = tmp_path / "a.bin"
    with av.open(str(path), "w", format=format) as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height = 96, 64
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = out.add_stream(sound, rate=44_100)
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(clips.picture(index, (96, 64)), "rgb24")
            frame.pts = index
            out.mux(video.encode(frame))
            wave = clips.tone_frame(index * 1764, 1764)
            wave.sample_rate, wave.pts = 44_100, index * 1764
            wave.time_base = Fraction(1, 44_100)
            out.mux(audio.encode(wave))
        for stream in (video, audio):
            out.mux(stream.encode(None))
    clip = read_clip(path)
    assert isinstance(clip.info, VideoInfo) and clip.info.average_rate == 25
    with av.open(str(path)) as file:
        times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    assert clip.times == times and len(times) == 50
    heard_s = sum(p.duration for p in clip.packets) * clip.info.audio[0].time_base
    assert heard_s == pytest.approx(2, abs=0.1)
    assert clip.repairs.describe() == {}
