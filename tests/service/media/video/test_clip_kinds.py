"""Kinds of clips that people send, each with the right value; docs/media.md lists them."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from service.media.video.reader import read_video
from service.media.video.types import (
    ClipSelection,
    UnsupportedVideo,
    VideoLimitExceeded,
    VideoLimits,
)
from tests import clip_kinds, clips
from tests.clip_kinds import write_pictures
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
