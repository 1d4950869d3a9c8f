"""Clips whose timeline is not that of their packets: edit lists, joined and damaged recordings."""

from fractions import Fraction

import av
import numpy as np
import pytest

from service.media.video.types import ClipSelection
from tests import clip_kinds, clips
from tests.edit_lists import make_editable, set_edits
from tests.video_copies import copy, hear, read_clip

FPS = 25


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An MP4 of 3 s with B-frames, its clocks in ms and samples, whose tone begins at 1 s."""
    return make_editable(tmp_path_factory.mktemp("edits") / "plain.mp4", seconds=3, event_s=1)


@pytest.fixture
def edited(plain, tmp_path):
    """Return what writes the clip with these edits of picture and audio, seconds."""

    def write(*edits: tuple[float, float]):
        first_pts = {0: 1024, 1: 1024}  # of the media: two frames, and the encoder's delay
        rates = {0: 12_800, 1: clips.SAMPLE_RATE}
        ticks = {
            track: [
                (round(s * 1000), -1 if at < 0 else round(at * rate) + first_pts[track])
                for s, at in edits
            ]
            for track, rate in rates.items()
        }
        return set_edits(plain, tmp_path / "edited.mp4", ticks)

    return write


def test_parts_that_an_edit_list_joins(edited) -> None:
    """The second second of three is cut out; where the parts meet is no step of the clock."""
    clip = read_clip(edited((1, 0), (1, 2)))
    assert clip.times == pytest.approx([index / FPS for index in range(50)], abs=0.001)
    assert clip.repairs.describe() == {}
    seen = [frame.image.mean() > 20 for frame in clip.frames]
    assert seen == [index >= 25 for index in range(50)]


def test_part_that_an_edit_list_repeats(edited) -> None:
    clip = read_clip(edited((1, 0.5), (1, 0.5)))
    assert clip.times == pytest.approx([index / FPS for index in range(50)], abs=0.045)
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize("edits", [[(1, 0), (1, 2)], [(0.5, -1), (1.5, 1.5)]])
def test_audio_that_an_edit_list_cuts_off_is_not_heard(edited, tmp_path, edits) -> None:
    path, result = edited(*edits), tmp_path / "result.mp4"
    copy(path, result)
    before, after = hear(path) > 0.05, hear(result) > 0.05
    assert np.count_nonzero(before != after) <= 3  # of 10 ms each
    assert before.any()


def test_joined_recordings_with_pictures_in_another_order(tmp_path) -> None:
    """Two MKV in one file; behind the seam the library knows no order of decoding."""
    once = clips.make_clip(tmp_path / "once.mkv", seconds=2, fps=FPS, event_s=1)
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(once.read_bytes() * 2)
    clip = read_clip(joined)
    assert clip.repairs.describe() == {"clock_corrections": 1}
    assert clip.times[50] == pytest.approx(2.02, abs=0.05)
    result = tmp_path / "result.mp4"
    copy(joined, result)
    bright = np.array([frame.image.mean() > 20 for frame in clip.frames])
    seen = np.array(clip.times)[1:][bright[1:] & ~bright[:-1]]
    loud = np.array([level > 0.05 for level in hear(result)])
    heard = (np.flatnonzero(loud[1:] & ~loud[:-1]) + 1) / 100
    assert len(seen) == len(heard) == 2
    assert np.abs(seen - heard).max() < 0.04


@pytest.mark.parametrize("containers", [("mp4",), ("webm",), ("mp4", "webm")])
def test_audio_that_cannot_be_decoded_is_counted(plain, tmp_path, containers) -> None:
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as file:
        packets = [packet for packet in file.demux(audio=0) if packet.size]
    for packet in packets[20:23]:
        data[packet.pos : packet.pos + packet.size] = bytes([0xFF]) * packet.size
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    clip = read_clip(path, ClipSelection(audio=containers))
    assert clip.repairs.describe() == {"audio_packets_lost": 3}
    if containers == ("mp4",):
        assert len(clip.packets) == len(packets) - 3


CUT = [
    ("a.mp4", {}, {"movflags": "faststart"}),
    ("a.mp4", {}, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ("a.mkv", {}, {}),
    ("a.webm", {"codec": "libvpx"}, {}),
    ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "sound_codec": "pcm_s16le"}, {}),
    ("a.flv", {"sound_codec": "libmp3lame"}, {}),
    ("a.gif", {}, {}),
    ("a.ts", {}, {}),
]


@pytest.mark.parametrize(("name", "kind", "options"), CUT)
def test_clip_that_is_cut_says_so(tmp_path, name: str, kind: dict, options: dict) -> None:
    whole = clips.make_clip(tmp_path / name, seconds=1.6, fps=FPS, options=options, **kind)
    clip = read_clip(whole)
    assert clip.repairs.describe() == {}
    frames = len(clip.frames)
    for fraction in (0.5, 0.75, 0.97):
        cut = tmp_path / f"cut-{name}"
        data = whole.read_bytes()
        cut.write_bytes(data[: int(len(data) * fraction) | 1])  # not where a packet of TS ends
        clip = read_clip(cut)
        assert 0 < len(clip.frames) <= frames
        assert clip.repairs.cut_short == 1
        if name not in ("a.ts", "a.gif") and fraction < 0.7 and "frag" not in str(options):
            missing_s = 1.6 - clip.times[-1]
            assert clip.repairs.ends_early_s == pytest.approx(missing_s, abs=0.15)


@pytest.mark.parametrize("rubbish", [bytes(64), bytes([0x9F, 0xEE]) * 32, b"abc"])
def test_rubbish_behind_a_clip_is_no_cut(plain, tmp_path, rubbish: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(plain.read_bytes() + rubbish)
    assert read_clip(path).repairs.describe() == {}


def test_file_that_ends_inside_a_picture(tmp_path) -> None:
    """Decoders fill up what is missing of it."""
    options = {"movflags": "faststart"}
    whole = clips.make_clip(
        tmp_path / "a.mov", codec="png", pix_fmt="rgb24", tone=False, options=options
    )
    with av.open(str(whole)) as file:
        *_, last = (packet for packet in file.demux(video=0) if packet.size)
    path = tmp_path / "cut.mov"
    path.write_bytes(whole.read_bytes()[: -last.size // 2])
    repairs = read_clip(path).repairs
    assert repairs.frames_damaged + repairs.frames_lost == 1 and repairs.cut_short == 1


def test_audio_that_no_decoder_knows_is_told(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mkv", seconds=0.4, sound_tracks=2)
    data = path.read_bytes()
    place = data.index(b"A_AAC")
    path.write_bytes(data[:place] + b"A_XYZ" + data[place + 5 :])
    clip = read_clip(path)
    assert len(clip.info.audio) == 1
    assert clip.repairs.describe() == {"audio_tracks_lost": 1}
    assert read_clip(path, ClipSelection(audio=())).repairs.describe() == {}


def test_more_audio_tracks_than_are_read_are_told(tmp_path) -> None:
    path = clips.make_clip(tmp_path / "a.mkv", seconds=0.2, sound_tracks=18)
    assert read_clip(path).repairs.describe() == {"audio_tracks_lost": 2}


def test_frames_of_one_time_are_told(tmp_path) -> None:
    def stop_clock(packet) -> bool:
        if packet.stream.type == "video" and packet.pts in (200, 400):
            packet.pts = packet.dts = packet.pts - 40
        return True

    times = range(0, 600, 40)
    clock = Fraction(1, 1000)
    source = clips.make_clip(
        tmp_path / "source.webm", codec="libvpx", fps=25, times=times, time_base=clock, tone=False
    )
    path = clip_kinds.copy_packets(source, tmp_path / "a.mkv", stop_clock)
    clip = read_clip(path)
    expected = [time + (-39 if time in (200, 400) else 0) for time in times]
    assert clip.times == pytest.approx([time / 1000 for time in expected], abs=1e-6)
    assert clip.repairs.describe() == {"clock_corrections": 2}
