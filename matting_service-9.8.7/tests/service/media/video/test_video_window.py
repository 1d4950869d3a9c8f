"""Parts of a clip: from start to end, at fewer frames a second."""

import itertools
from fractions import Fraction
from pathlib import Path

import pytest

import service.media.video.reader
from service.media.audio.types import AudioPacket
from service.media.video.reader import read_video
from service.media.video.types import (
    ClipSelection,
    EmptySelection,
    VideoFrame,
    VideoInfo,
    VideoLimitExceeded,
    VideoLimits,
)
from service.media.video.window import FrameSelector
from tests import clips

LIMITS = VideoLimits(max_frames=36_000, max_duration_s=600, max_frame_megapixels=9, max_side=4096)


def read(path: Path, limits: VideoLimits = LIMITS, **wanted):
    """Return the info, the times of frames in the file, and the packets with their times."""
    with path.open("rb") as file:
        info, *items, _ = read_video(file, limits, ClipSelection(**wanted))
    assert isinstance(info, VideoInfo)
    frames = [item.pts * info.time_base for item in items if isinstance(item, VideoFrame)]
    packets = [item for item in items if isinstance(item, AudioPacket)]
    return info, frames, [(p.pts * info.audio[p.track].time_base, p) for p in packets]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.gif", "a.webm"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.5, None), (0.0, 0.5), (0.25, 0.75), (0.9, 5.0)])
def test_frames_and_sound_lie_between_start_and_end(tmp_path, name, start_s, end_s) -> None:
    codec = {"codec": "libvpx"} if name.endswith("webm") else {}
    path = clips.make_clip(tmp_path / name, seconds=1, fps=20, **codec)
    whole, all_frames, all_packets = read(path)
    origin_s = whole.origin_pts * whole.time_base
    info, frames, packets = read(path, start_s=start_s, end_s=end_s)
    near = Fraction(1, 2000)
    least = origin_s + Fraction(start_s) - near
    most = origin_s + Fraction(100 if end_s is None else end_s) - near
    assert frames == [time for time in all_frames if least <= time < most]
    begin_s = frames[0] if start_s else Fraction(-1)
    heard = [(time, p.data) for time, p in all_packets if begin_s <= time < most]
    assert [(time, packet.data) for time, packet in packets] == heard
    assert info.origin_pts == (frames[0] / info.time_base if start_s else whole.origin_pts)
    if whole.duration_s is not None:
        expected_s = min(1, end_s or 1) - start_s
        assert info.duration_s == pytest.approx(expected_s, abs=0.06)
        assert whole.frames_estimate is None or info.frames_estimate in range(len(frames), 23)


def test_sound_that_must_be_converted_is_cut_too(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mov", seconds=1, fps=20, sound_codec="pcm_s16le")
    info, frames, packets = read(path, start_s=0.3, end_s=0.7)
    assert info.audio[0].codec == "aac"
    assert frames[0] == Fraction(3, 10) and len(frames) == 8
    assert 0 <= packets[0][0] - frames[0] < 0.022
    assert 0.66 < packets[-1][0] < 0.7


@pytest.mark.parametrize("written", [0.1, 0.05, 0.35, 0.7])
def test_decimal_start_is_on_the_frame_that_it_names(tmp_path, written: float) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=1, fps=20, tone=False)
    assert read(path, start_s=written)[1][0] == Fraction(str(written))


@pytest.mark.parametrize(
    ("fps", "most", "kept"),
    [(60, 30, 30), (30, 30, 30), (30, 25, 25), (30, 10, 10), (30, 60, 30), (24, 0.5, 1)],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_above_the_rate_are_left_out_evenly(tmp_path, name, fps, most, kept) -> None:
    path = clips.make_clip(tmp_path / name, seconds=1, fps=fps, size=(32, 32), tone=False)
    _, all_frames, _ = read(path)
    info, frames, _ = read(path, max_fps=most)
    assert len(frames) == kept and set(frames) <= set(all_frames)
    gaps = [later - earlier for earlier, later in itertools.pairwise(frames)]
    if gaps:
        assert max(gaps) - min(gaps) <= Fraction(1, fps) + Fraction(1, 500)
    assert info.average_rate is not None and info.average_rate <= max(most, fps)


def test_start_behind_the_end_of_the_clip_is_told(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=0.5)
    with pytest.raises(EmptySelection):
        read(path, start_s=0.6)


def test_long_lead_of_sound_before_the_start_is_not_held(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(service.media.video.reader, "MAX_EARLY_SOUND_BYTES", 6000)
    path = clips.make_clip(tmp_path / "a.mp4", seconds=3, fps=10)
    assert len(read(path, start_s=2.5)[1]) == 5


def test_limit_of_seconds_counts_what_is_wanted(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=4, fps=5, tone=False)
    limits = VideoLimits(36_000, 1.5, 9, 4096)
    with pytest.raises(VideoLimitExceeded, match="seconds"):
        read(path, limits)
    assert len(read(path, limits, start_s=2, end_s=3)[1]) == 5
    with pytest.raises(VideoLimitExceeded, match="seconds"):
        read(path, limits, start_s=1, end_s=3.9)


def test_frames_before_the_start_count_for_the_limit_of_frames(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=2, fps=10, tone=False)
    with pytest.raises(VideoLimitExceeded, match="frames"):
        read(path, VideoLimits(12, 600, 9, 4096), start_s=1.5)


def test_decoding_ends_with_the_part(tmp_path) -> None:
    """What lies behind the end is not read: here it is not even there."""
    path = clips.make_clip(tmp_path / "a.ts", seconds=2, fps=10, tone=False)
    short = clips.truncate(tmp_path / "short.ts", path, 0.6)
    assert read(short, end_s=0.8)[1] == read(path, end_s=0.8)[1]


def test_window_is_over_when_frames_and_every_sound_are() -> None:
    window = FrameSelector(ClipSelection(end_s=1.0))
    window.begin(Fraction(0), range(2))
    assert not window.takes_frame(Fraction(1)) and not window.is_over
    assert not window.takes_audio(0, Fraction(2)) and not window.is_over
    assert window.takes_audio(1, Fraction(1, 2))
    assert not window.takes_audio(1, Fraction(1)) and window.is_over
