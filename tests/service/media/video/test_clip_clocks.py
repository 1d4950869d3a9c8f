"""Clocks of containers that begin below zero, run over, or do not say when pictures are shown."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import clips
from tests.clip_kinds import damage, write_pictures
from tests.video_copies import read_clip

FLV_HEAD_BYTES, SCRIPT = 13, 0x12


def shift_flv(source: Path, target: Path, shift_ms: int, bits: int) -> Path:
    """Write an FLV whose times lie elsewhere, in so many bits."""
    data, at = bytearray(source.read_bytes()), FLV_HEAD_BYTES
    while at < len(data):
        if data[at] != SCRIPT:
            time = int.from_bytes(data[at + 4 : at + 7]) | data[at + 7] << 24
            shifted = (time + shift_ms) & ((1 << bits) - 1)
            data[at + 4 : at + 7] = (shifted & 0xFFFFFF).to_bytes(3)
            data[at + 7] = shifted >> 24
        at += 11 + int.from_bytes(data[at + 1 : at + 4]) + 4
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("bits", [31, 32])
@pytest.mark.parametrize("shift_ms", [-80, -500, -5000, (1 << 24) - 500, 30 * 60_000])
def test_clock_of_an_flv_below_zero(tmp_path, shift_ms: int, bits: int) -> None:
    """Programs write such times in 31 or in 32 bits; none has another length for it."""
    plain = clips.make_clip(tmp_path / "plain.flv", seconds=1, fps=25, sound_codec="libmp3lame")
    clip = read_clip(shift_flv(plain, tmp_path / "a.flv", shift_ms, bits))
    known = read_clip(plain)
    steps = [after - before for before, after in zip(clip.times, clip.times[1:], strict=False)]
    assert steps == pytest.approx([1 / 25] * 24)
    assert len(clip.packets) == len(known.packets)
    sounds = [packet.pts - clip.packets[0].pts for packet in clip.packets]
    assert sounds == [packet.pts - known.packets[0].pts for packet in known.packets]
    apart = clip.frames[0].pts - clip.packets[0].pts
    assert apart == known.frames[0].pts - known.packets[0].pts
    assert 0 <= clip.times[0] < 0.1
    assert clip.repairs.describe() == {}


def test_clock_of_an_flv_whose_audio_alone_begins_below_zero(tmp_path) -> None:
    """As FFmpeg writes one without moving its times."""
    path = tmp_path / "a.flv"
    clips.make_clip(
        path,
        seconds=1,
        fps=25,
        sound_codec="libmp3lame",
        options={"avoid_negative_ts": "disabled"},
    )
    clip = read_clip(path)
    assert clip.times == pytest.approx([index / 25 for index in range(25)])
    assert clip.packets[0].pts == -23
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize("b_frames", ["0", "1", "3"])
def test_pictures_of_an_avi_are_shown_in_their_order(tmp_path, b_frames: str) -> None:
    """It states when a picture is coded; the pictures between others come later."""
    images = [clips.picture(4 * index, (96, 64)) for index in range(24)]
    options = {"bf": b_frames, "g": "8", "crf": "8"}
    path = write_pictures(tmp_path / "a.avi", images, options=options)
    clip = read_clip(path)
    assert np.diff(clip.times) == pytest.approx(0.04) and clip.times[0] <= 0.04
    assert clip.repairs.describe() == {}
    for frame, image in zip(clip.frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 5


def test_picture_that_an_avi_lacks_moves_no_later_group(tmp_path) -> None:
    images = [clips.picture(4 * index, (96, 64)) for index in range(24)]
    options = {"bf": "2", "g": "8", "preset": "ultrafast", "x264-params": "open-gop=0:scenecut=0"}
    whole = write_pictures(tmp_path / "a.avi", images, options=options)
    times = read_clip(whole).times
    clip = read_clip(damage(whole, tmp_path / "b.avi", 3))
    assert clip.repairs.frames_lost == 1 and len(clip.frames) == 23
    assert clip.times[-16:] == times[-16:]


EMPTY = b"\0\0\1\xb6\x54\x4f"  # of MPEG-4: nothing changes


def read_mpeg4(path: Path, **options: str) -> list[bytes]:
    """Write a clip in MPEG-4; return its packets."""
    images = [clips.picture(4 * index, (96, 64)) for index in range(24)]
    options = {"qmin": "1", "qmax": "3", "g": "12"} | options
    write_pictures(path, images, codec="mpeg4", options=options)
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def write_packets(source: Path, target: Path, packets: list[bytes]) -> Path:
    """Write packets of the codec of another clip, 25 a second; the first is a key frame."""
    with av.open(str(source)) as file, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for index, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.is_keyframe = index == 0
            out.mux(packet)
    return target


@pytest.mark.parametrize("name", ["b.avi", "b.mkv", "b.mp4"])
def test_pictures_that_change_nothing_are_not_lost(tmp_path, name: str) -> None:
    """As DivX and Xvid write them where a picture was dropped."""
    packets = read_mpeg4(tmp_path / "a.avi", bf="0")
    for index in (4, 5, 9):
        packets.insert(index, EMPTY)
    clip = read_clip(write_packets(tmp_path / "a.avi", tmp_path / name, packets))
    assert len(clip.frames) == 24 and clip.repairs.describe() == {}
    there = [index / 25 for index in range(27) if index not in (4, 5, 9)]
    assert clip.times == pytest.approx(there)


def test_pictures_of_divx_that_share_a_packet(tmp_path) -> None:
    """A picture between others comes with the one that it needs; an empty one fills its place."""
    packets = read_mpeg4(tmp_path / "a.avi", bf="1")
    packed, index = list[bytes](), 0
    while index < len(packets):
        pair = packets[index : index + 2]
        is_pair = len(pair) == 2 and pair[1][pair[1].index(EMPTY[:4]) + 4] >> 6 == 2
        packed += [b"".join(pair), EMPTY] if is_pair else pair[:1]
        index += 1 + is_pair
    at = packed[0].index(EMPTY[:4])
    packed[0] = packed[0][:at] + b"\0\0\1\xb2DivX503b1393p" + packed[0][at:]
    clip = read_clip(write_packets(tmp_path / "a.avi", tmp_path / "b.avi", packed))
    assert len(clip.frames) == 24 and clip.repairs.describe() == {}
    assert np.diff(clip.times) == pytest.approx(0.04)
    for number, frame in enumerate(clip.frames):
        wanted = clips.picture(4 * number, (96, 64))
        assert np.abs(frame.image.astype(int) - wanted).mean() < 5
