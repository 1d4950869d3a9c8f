"""Clips that are damaged in the middle of their file, where the container lists no pictures."""

import io
import struct

import av
import numpy as np
import pytest

from service.media.video.structure import count_broken_places
from tests import clips
from tests.video_copies import read_clip

KINDS = {
    "a.mkv": {},
    "a.webm": {"codec": "libvpx"},
    "live.mkv": {"options": {"live": "1"}},
    "a.avi": {"codec": "mpeg4", "sound_codec": "mp3"},
    "jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "sound_codec": "pcm_s16le"},
    "a.flv": {"sound_codec": "libmp3lame"},
    "a.ts": {},
    "mpeg2.ts": {"codec": "mpeg2video", "sound_codec": "mp2"},
    "a.gif": {},
}
LENGTH = 700


@pytest.fixture(scope="module", params=KINDS)
def sound(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("middles") / request.param
    return clips.make_clip(path, seconds=1.6, fps=25, size=(160, 96), **KINDS[request.param])


def damage(data: bytes, how: str, share: float) -> bytes:
    at = int(len(data) * share)
    noise = np.random.default_rng(at).integers(0, 256, LENGTH, np.uint8).tobytes()
    return (
        data[:at] + {"zeros": bytes(LENGTH), "noise": noise, "lost": b""}[how] + data[at + LENGTH :]
    )


@pytest.mark.parametrize("how", ["zeros", "noise", "lost"])
def test_clip_that_is_damaged_in_its_middle_says_so(sound, tmp_path, how: str) -> None:
    """None has fewer frames or packets of audio without a word."""
    whole = read_clip(sound)
    for share in (0.35, 0.6, 0.85):
        path = tmp_path / sound.name
        path.write_bytes(damage(sound.read_bytes(), how, share))
        clip = read_clip(path)
        is_less = len(clip.frames) < len(whole.frames) or len(clip.packets) < len(whole.packets)
        assert len(clip.frames) > 0
        assert not is_less or clip.repairs.describe(), share


@pytest.mark.parametrize("times", [1, 3])
def test_sound_clips_are_not_called_damaged(sound, tmp_path, times: int) -> None:
    """Nor joined ones, nor those with rubbish behind them."""
    path = tmp_path / sound.name
    path.write_bytes(sound.read_bytes() * times)
    assert read_clip(path).repairs.places_damaged == 0
    path.write_bytes(sound.read_bytes() + b"rubbish " * 50)
    repairs = read_clip(path).repairs
    assert repairs.places_damaged == 0 or sound.suffix in (".ts", ".mkv")


def test_habits_of_programs_are_no_damage() -> None:
    """Chunks of AVI that are not filled up, sizes of FLV without the head of a tag."""
    chunks = b"".join(b"00dc" + struct.pack("<I", 5) + b"\1\2\3\4\5" for _ in range(9))
    avi = b"RIFF" + struct.pack("<I", 16 + len(chunks)) + b"AVI " + b"LIST"
    avi += struct.pack("<I", 4 + len(chunks)) + b"movi" + chunks
    assert count_broken_places(io.BytesIO(avi), "avi") == 0
    tag = b"\x09" + (4).to_bytes(3) + bytes(7) + b"\1\2\3\4" + (4).to_bytes(4)
    flv = b"FLV\1\1\0\0\0\x09" + bytes(4) + tag * 9
    assert count_broken_places(io.BytesIO(flv), "flv") == 0
    assert count_broken_places(io.BytesIO(flv[:60] + b"?" * 30 + flv[60:]), "flv") == 1


def make_heavy(path) -> None:
    """Write an MPEG-TS of noise, 32 frames of 0.3 megabytes each, without audio."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8)
    with av.open(str(path), "w", format="mpegts") as out:
        stream = out.add_stream("libx264", 25, {"preset": "ultrafast", "qp": "4", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = 640, 320, "yuv420p"
        for index in range(32):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, index, 0), "yuv420p")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_track_that_was_not_announced(tmp_path) -> None:
    """A programme that has audio in its middle part: pictures go on, the audio is told.

    The library reads five megabytes ahead to find the tracks, and some at the end.
    """
    make_heavy(tmp_path / "heavy.ts")
    loud = clips.make_clip(tmp_path / "loud.ts", seconds=0.8, fps=25, size=(640, 320))
    around, path = (tmp_path / "heavy.ts").read_bytes(), tmp_path / "a.ts"
    assert len(around) > 6_000_000
    path.write_bytes(around + loud.read_bytes() + around)
    clip = read_clip(path)
    assert len(clip.frames) == 32 + 20 + 32
    assert clip.info.audio == ()
    told = clip.repairs.describe()
    assert told.pop("clock_corrections") >= 2 and told == {"places_damaged": 1}


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mpeg4"])
def test_damage_that_decoders_pass_over_is_found_by_the_checksums_of_matroska(
    tmp_path, codec: str
) -> None:
    path = clips.make_clip(tmp_path / "a.mkv", seconds=1, fps=25, codec=codec)
    assert read_clip(path).repairs.describe() == {}
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size > 30]
    data[packets[9].pos + packets[9].size // 2] ^= 16
    path.write_bytes(data)
    assert read_clip(path).repairs.places_damaged == 1
