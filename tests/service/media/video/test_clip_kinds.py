"""Kinds of clips that people send, each with the right value; docs/media.md lists them."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from PIL import Image

from service.media.video.reader import read_video
from service.media.video.types import (
    ClipSelection,
    UndecodableVideo,
    UnsupportedVideo,
    VideoInfo,
    VideoLimitExceeded,
    VideoLimits,
)
from tests import clip_kinds, clips
from tests.clip_kinds import flat, write_pictures
from tests.video_copies import LIMITS, read_clip


@pytest.mark.parametrize("orientation", range(1, 9))
def test_side_data_without_a_name(tmp_path, orientation: int) -> None:
    clip = read_clip(clip_kinds.make_motion_jpeg(tmp_path / "a.mov", *[orientation] * 3))
    assert len(clip.frames) == 3
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = Image.fromarray(clips.picture(0, (96, 64)))
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}  # Image.Transpose
    for turn in turns.get(orientation, []):
        source = source.transpose(Image.Transpose(turn))
    assert np.abs(clip.frames[0].image.astype(int) - np.asarray(source)).mean() < 6


@pytest.mark.parametrize("pieces", [2, 3])
def test_clock_that_goes_back(tmp_path, pieces: int) -> None:
    """Each piece is dark and silent until the event that is seen and heard."""
    once = clips.make_clip(tmp_path / "once.ts", seconds=2, fps=25, event_s=1)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(once.read_bytes() * pieces)
    clip = read_clip(joined)
    assert len(clip.frames) == pieces * 50
    assert clip.repairs.clock_corrections == pieces - 1
    assert clip.times[-1] == pytest.approx(pieces * 2.02 - 0.04, abs=0.05)
    bright = np.array([frame.image.mean() > 20 for frame in clip.frames])
    seen = np.array(clip.times)[1:][bright[1:] & ~bright[:-1]]
    heard = find_beeps(clip)
    assert len(seen) == len(heard) == pieces
    assert np.abs(seen - np.array(heard)).max() < 0.04


def find_beeps(clip) -> list[float]:
    """Return when the tone of AAC packets begins, in seconds of the result."""
    track, zero_s = clip.info.audio[0], clip.info.origin_pts * clip.info.time_base
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = track.extradata
    begins, was_loud = [], False
    for packet in clip.packets:
        for frame in decoder.decode(av.Packet(packet.data)):
            is_loud = np.abs(frame.to_ndarray()).max() > 0.1
            if is_loud and not was_loud:
                begins.append(float(packet.pts * track.time_base - zero_s))
            was_loud = is_loud
    return begins


def test_clock_that_jumps_ahead(tmp_path) -> None:
    pieces = [
        clips.make_clip(tmp_path / f"{start}.ts", seconds=1, fps=25, start_s=start)
        for start in (0, 100)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    clip = read_clip(joined)
    assert len(clip.frames) == 50
    assert clip.times[-1] == pytest.approx(2, abs=0.1)
    assert clip.repairs.clock_corrections == 1


def test_frames_far_apart_are_no_jump(tmp_path) -> None:
    times = [0, 12_000, 30_000]
    path = clips.make_clip(tmp_path / "a.mkv", times=times, time_base=Fraction(1, 1000), tone=False)
    clip = read_clip(path)
    assert clip.times == [0, 12, 30] and clip.repairs.clock_corrections == 0


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4", "late.ts"])
def test_end_of_the_clock_is_not_the_length(tmp_path, name: str) -> None:
    path = clips.make_clip(tmp_path / name, seconds=1, start_s=3600)
    clip = read_clip(path, limits=VideoLimits(100, 2, 9, 4096))
    assert len(clip.frames) == 30 and clip.times[-1] < 1.1
    assert clip.info.duration_s is None or clip.info.duration_s < 1.2


def test_length_is_counted_not_believed(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=1, tone=False)
    data = path.read_bytes()
    with av.open(io.BytesIO(data)) as file:
        stated = file.streams.video[0].duration
    lying = data.replace(stated.to_bytes(4), (stated * 5000).to_bytes(4))
    assert lying != data
    path.write_bytes(lying)
    assert len(read_clip(path, limits=VideoLimits(100, 2, 9, 4096)).frames) == 30


def test_groups_before_the_start_are_not_decoded(tmp_path) -> None:
    """A limit on decoded frames that only leaves room for those near the part."""
    path = clips.make_clip(tmp_path / "a.mp4", seconds=8, fps=25, options={})
    regrouped = write_pictures(
        tmp_path / "b.mp4",
        [clips.picture(index, (96, 64)) for index in range(200)],
        options={"g": "10", "preset": "ultrafast"},
    )
    part = ClipSelection(start_s=6.0)
    limits = VideoLimits(90, 600, 9, 4096)
    clip = read_clip(regrouped, part, limits)
    assert clip.times == pytest.approx([index / 25 for index in range(50)])
    assert clip.repairs.describe() == {}
    whole = read_clip(regrouped)
    assert (clip.frames[0].image == whole.frames[150].image).all()
    with pytest.raises(VideoLimitExceeded):
        read_clip(path, part, VideoLimits(20, 600, 9, 4096))


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4", "webm"])
def test_part_is_exact_whatever_the_groups(tmp_path, suffix: str) -> None:
    codec = {"codec": "libvpx"} if suffix == "webm" else {}
    path = clips.make_clip(tmp_path / f"a.{suffix}", seconds=3, fps=25, **codec)
    whole = read_clip(path)
    part = read_clip(path, ClipSelection(start_s=2.0))
    assert len(part.frames) == 25
    for before, after in zip(whole.frames[-25:], part.frames, strict=True):
        assert before.pts == after.pts and (before.image == after.image).all()


def test_progress_is_told_where_nothing_is_selected(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mkv", seconds=2, tone=False)
    told = []
    with path.open("rb") as file:
        selection = ClipSelection(max_fps=0.1)
        items = list(read_video(file, LIMITS, selection, lambda: told.append(1)))
    assert len(items) == 1 + 1 + 1 and len(told) >= 60


def test_still_items_are_no_video(tmp_path) -> None:
    path = clip_kinds.make_still_heic(tmp_path / "a.heic")
    with pytest.raises(UnsupportedVideo, match="HEIC or AVIF picture.*/v1/image"):
        read_clip(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_picture_is_named_and_sent_elsewhere(tmp_path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    Image.fromarray(clips.picture(0, (96, 64))).save(path, kind)
    with pytest.raises(UnsupportedVideo, match=f"(?i){kind}.*/v1/image"):
        read_clip(path)


@pytest.mark.parametrize("containers", [("webm",), ("mp4", "webm")])
@pytest.mark.parametrize(
    ("layouts", "rates"),
    [(["5.1", "stereo"], []), (["stereo", "5.1"], []), (["stereo", "mono"], [48_000, 44_100])],
)
def test_audio_that_changes_is_audible_to_its_end(tmp_path, containers, layouts, rates) -> None:
    path = clip_kinds.make_audio_change(tmp_path / "a.ts", layouts, rates=rates)
    clip = read_clip(path, ClipSelection(audio=containers))
    (track,) = [track for track in clip.info.audio if "webm" in track.containers]
    decoder = av.CodecContext.create("libopus", "r")
    decoder.extradata = track.extradata
    loud_s = [
        float(packet.pts * track.time_base - clip.info.origin_pts * clip.info.time_base)
        for packet in clip.packets
        if packet.track == track.index
        for frame in decoder.decode(av.Packet(packet.data))
        if np.abs(frame.to_ndarray()).max() > 0.05
    ]
    assert min(loud_s) < 0.15 and max(loud_s) > 1.85
    assert max(np.diff(loud_s)) < 0.1, "no hole where it changes"
    assert clip.repairs.audio_changes == 1 and clip.repairs.audio_packets_lost == 0


def test_aac_that_changes_is_encoded_in_the_form_of_the_first(tmp_path) -> None:
    path = clip_kinds.make_audio_change(tmp_path / "a.ts", ["stereo", "mono"], codec="aac")
    clip = read_clip(path)
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = clip.info.audio[0].extradata
    levels = [
        np.abs(frame.to_ndarray()).max()
        for packet in clip.packets
        for frame in decoder.decode(av.Packet(packet.data))
    ]
    assert len(levels) > 90 and min(levels[-40:-3]) > 0.1
    assert clip.repairs.audio_changes == 1


def test_custom_channel_layout(tmp_path) -> None:
    """The centre stays in the middle: as loud on the left as on the right."""
    clip = read_clip(clip_kinds.make_custom_layout(tmp_path / "a.mov"))
    track = clip.info.audio[0]
    assert (track.reencoded_from, track.mixed_from) == ("pcm_s16le", "5.1(side)")
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = track.extradata
    waves = [f.to_ndarray() for p in clip.packets for f in decoder.decode(av.Packet(p.data))]
    left, right = (np.concatenate([wave[side] for wave in waves[5:40]]) for side in (0, 1))
    assert np.abs(left).max() > 0.05
    assert np.abs(left - right).max() < 0.02


def test_missing_key_frame_is_counted(tmp_path) -> None:
    whole = write_pictures(
        tmp_path / "a.mkv",
        [clips.picture(index, (96, 64)) for index in range(30)],
        options={"g": "10", "preset": "ultrafast", "x264-params": "scenecut=0"},
    )
    numbers = iter(range(100))
    path = clip_kinds.copy_packets(whole, tmp_path / "b.mkv", lambda packet: next(numbers) > 0)
    clip = read_clip(path)
    assert len(clip.frames) + clip.repairs.frames_lost == 29
    assert 0 < clip.repairs.frames_lost <= 9


def test_zeros_in_the_middle_are_counted(tmp_path) -> None:
    whole = write_pictures(
        tmp_path / "a.mp4",
        [clips.picture(index, (320, 256)) for index in range(60)],
        options={"g": "10", "preset": "ultrafast"},
    )
    path = clip_kinds.damage(whole, tmp_path / "b.mp4", 20, 6000)
    clip = read_clip(path)
    assert len(clip.frames) + clip.repairs.frames_lost == 60
    assert clip.repairs.frames_lost + clip.repairs.frames_damaged > 0
    assert read_clip(whole).repairs.describe() == {}


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.ts", {})]
)
def test_clip_cut_in_half_says_so(tmp_path, name: str, options) -> None:
    whole = clips.make_clip(tmp_path / name, seconds=4, fps=25, options=options)
    short = clips.truncate(tmp_path / f"short{whole.suffix}", whole, 0.5)
    clip = read_clip(short)
    if name == "a.mp4":
        assert len(clip.frames) + clip.repairs.frames_lost == 100
    if name != "a.ts":  # which does not say how long it is
        assert clip.repairs.ends_early_s == pytest.approx(4 - clip.times[-1], abs=0.3)
    assert read_clip(whole).repairs.describe() == {}


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libsvtav1", "libx265", "mpeg4"])
def test_codecs_lose_nothing_of_a_sound_clip(tmp_path, codec: str) -> None:
    images = [clips.picture(index, (96, 64)) for index in range(40)]
    path = write_pictures(tmp_path / "a.mkv", images, codec=codec)
    clip = read_clip(path)
    assert len(clip.frames) == 40 and clip.repairs.describe() == {}


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
    info = read_clip(path).info
    assert (info.width, info.height) == sizes[1 if default is None else default]


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
