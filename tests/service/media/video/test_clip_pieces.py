"""Clips that lack a piece, hold more than one clip, or are turned in a way that is not applied."""

import struct
from pathlib import Path

import numpy as np
import pytest

from service.media.video.types import ClipSelection
from tests import clips
from tests.video_copies import read_clip

FPS = 25
FRAGMENTED = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}


def list_boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and bytes of the boxes of an MP4."""
    at, boxes = 0, []
    while at < len(data):
        size, kind = struct.unpack_from("!I4s", data, at)
        boxes.append((kind, data[at : at + size]))
        at += size
    return boxes


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory) -> Path:
    """An MP4 of 4 s in fragments of half a second, each picture by itself."""
    path = tmp_path_factory.mktemp("fragments") / "fragments.mp4"
    jpeg = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
    return clips.make_clip(path, seconds=4, fps=FPS, options=FRAGMENTED, **jpeg)


def leave_out(source: Path, target: Path, kinds: tuple[bytes, ...]) -> Path:
    """Write a clip without these boxes of its fourth fragment."""
    boxes = list_boxes(source.read_bytes())
    moofs = [number for number, (kind, _) in enumerate(boxes) if kind == b"moof"]
    fourth = range(moofs[3], moofs[4])
    kept = [
        box for number, (kind, box) in enumerate(boxes) if number not in fourth or kind not in kinds
    ]
    target.write_bytes(b"".join(kept))
    return target


@pytest.mark.parametrize("kinds", [(b"moof", b"mdat"), (b"moof",), (b"mdat",)])
def test_missing_fragment_is_counted(fragmented, tmp_path, kinds) -> None:
    whole = read_clip(fragmented)
    assert whole.repairs.describe() == {}
    clip = read_clip(leave_out(fragmented, tmp_path / "a.mp4", kinds))
    assert len(whole.frames) == 100 and len(clip.frames) == 87
    assert set(clip.times) < set(whole.times)
    assert clip.repairs.describe() == {
        "frames_lost": 100 - len(clip.frames),
        "audio_packets_lost": len(whole.packets) - len(clip.packets),
    }


def test_missing_fragment_outside_of_a_part_is_not_counted(fragmented, tmp_path) -> None:
    path = leave_out(fragmented, tmp_path / "a.mp4", (b"moof", b"mdat"))
    for selection in (ClipSelection(end_s=1), ClipSelection(start_s=3)):
        assert read_clip(path, selection).repairs.describe() == {}
    silent = read_clip(path, ClipSelection(audio=()))
    assert set(silent.repairs.describe()) == {"frames_lost"}


def test_pause_of_a_recorder_is_no_missing_fragment(fragmented, tmp_path) -> None:
    """The clock of all tracks goes on two seconds later, and no number is left out."""
    data = bytearray(fragmented.read_bytes())
    places = [at for at in range(len(data)) if data.startswith(b"tfdt", at)]
    rates = [12_800, clips.SAMPLE_RATE]
    for number, at in list(enumerate(places))[8:]:
        (start,) = struct.unpack_from("!Q", data, at + 8)
        struct.pack_into("!Q", data, at + 8, start + 2 * rates[number % 2])
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    clip = read_clip(path)
    assert len(clip.frames) == 100
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.mp4", {}), ("a.mov", {}), ("a.flv", {"sound_codec": "libmp3lame"})],
)
def test_clip_behind_a_clip_is_told(tmp_path, name: str, kind: dict) -> None:
    """Of joined files that the library reads in part, it is said that there is more."""
    once = clips.make_clip(tmp_path / name, seconds=1.6, fps=FPS, **kind)
    assert read_clip(once).repairs.describe() == {}
    for times in (2, 3):
        joined = tmp_path / f"joined-{name}"
        joined.write_bytes(once.read_bytes() * times)
        clip = read_clip(joined)
        assert len(clip.frames) == 40
        assert clip.repairs.describe() == {"clips_unread": times - 1}


def test_header_that_is_repeated_is_no_other_clip(fragmented, tmp_path) -> None:
    boxes = [box for _, box in list_boxes(fragmented.read_bytes())]
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join(boxes[:8] + boxes[:2] + boxes[8:]))
    clip = read_clip(path)
    assert len(clip.frames) == 100
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize("times", [2, 3])
def test_joined_fragments_are_read_one_after_another(fragmented, tmp_path, times: int) -> None:
    """The library leaves out the first one behind a seam, so its clock is changed before."""
    whole, joined = read_clip(fragmented), tmp_path / "a.mp4"
    joined.write_bytes(fragmented.read_bytes() * times)
    clip = read_clip(joined)
    assert len(clip.frames) == 100 * times
    assert len(clip.packets) == len(whole.packets) * times
    assert clip.repairs.describe() == {"clock_corrections": times - 1}
    expected = [n / FPS for n in range(100 * times)]
    assert clip.times == pytest.approx(expected, abs=0.1 * times)
    for index, frame in enumerate(clip.frames):
        np.testing.assert_array_equal(frame.image, whole.frames[index % 100].image)


@pytest.mark.parametrize("back_s", [0.001, 0.03, 0.06, 0.2])
def test_fragments_that_overlap_lose_nothing(fragmented, tmp_path, back_s: float) -> None:
    data = bytearray(fragmented.read_bytes())
    places = [at for at in range(len(data)) if data.startswith(b"tfdt", at)]
    rates = [12_800, clips.SAMPLE_RATE]
    for number, at in list(enumerate(places))[8:]:
        (start,) = struct.unpack_from("!Q", data, at + 8)
        struct.pack_into("!Q", data, at + 8, start - round(back_s * rates[number % 2]))
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    clip = read_clip(path)
    assert len(clip.frames) == 100
    assert len(clip.packets) == len(read_clip(fragmented).packets)
    assert clip.repairs.describe() == ({"clock_corrections": 1} if back_s > 0.01 else {})


def test_fragments_with_another_header_are_not_decoded_by_the_first(tmp_path) -> None:
    """A recording of another size is counted; one like the first behind it is read."""
    kinds = {"one": {}, "large": {"size": (192, 128)}, "silent": {"tone": False}}
    data = {
        name: clips.make_clip(
            tmp_path / f"{name}.mp4", seconds=1, fps=FPS, options=FRAGMENTED, **kind
        ).read_bytes()
        for name, kind in kinds.items()
    }
    # x264 may encode the same pictures in two ways: each recording is compared with itself.
    frames = {name: read_clip(tmp_path / f"{name}.mp4").frames for name in kinds}
    expected = {
        ("one", "large"): (["one"], {"clips_unread": 1}),
        ("one", "large", "one"): (["one", "one"], {"clips_unread": 1, "clock_corrections": 1}),
        ("one", "silent"): (["one", "silent"], {"clock_corrections": 1}),
        ("silent", "one"): (["silent"], {"clips_unread": 1}),
    }
    path = tmp_path / "joined.mp4"
    for names, (read, told) in expected.items():
        path.write_bytes(b"".join(data[name] for name in names))
        clip = read_clip(path)
        assert clip.repairs.describe() == told
        assert len(clip.frames) == 25 * len(read)
        right = [frame for name in read for frame in frames[name]]
        for frame, true in zip(clip.frames, right, strict=True):
            np.testing.assert_array_equal(frame.image, true.image)


@pytest.mark.parametrize(
    ("turn", "applied", "ignored"), [(33, 0, 33), (80, 90, 10), (180.4, 180, 0), (-100, 270, 10)]
)
def test_turn_that_is_no_quarter_is_told(tmp_path, turn, applied, ignored) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=0.4, rotation=turn, tone=False)
    clip = read_clip(path)
    assert clip.info.rotation_deg == applied
    told = {"turn_ignored_deg": ignored} if ignored else {}
    assert clip.repairs.describe() == pytest.approx(told, abs=0.1)


VP8, VP9 = {"codec": "libvpx"}, {"codec": "libvpx-vp9"}
H264, HEVC = {}, {"codec": "libx265"}
LARGE, SILENT, OTHER_AUDIO = {"size": (192, 128)}, {"tone": False}, {"sound_codec": "ac3"}


@pytest.mark.parametrize(
    ("kinds", "pieces", "unread"),
    [
        ((H264, H264), 2, 0),
        ((H264, SILENT), 2, 0),
        ((VP8, VP8 | LARGE), 2, 0),
        ((H264, LARGE), 1, 1),
        ((H264, HEVC), 1, 1),
        ((H264, LARGE, H264), 1, 2),
        ((VP8, VP9), 1, 1),
        ((H264, OTHER_AUDIO), 1, 1),
    ],
)
def test_joined_matroska_is_read_as_far_as_one_header_serves(
    tmp_path, kinds, pieces: int, unread: int
) -> None:
    """The library decodes all by the first one: in another codec or size that makes rubbish."""
    parts = [
        clips.make_clip(tmp_path / f"{number}.mkv", seconds=1, fps=FPS, **kind)
        for number, kind in enumerate(kinds)
    ]
    path = tmp_path / "joined.mkv"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip, whole = read_clip(path), read_clip(parts[0])
    assert len(clip.frames) == 25 * pieces
    assert clip.repairs.clips_unread == unread
    assert bool(clip.repairs.clock_corrections) == (pieces > 1)
    assert clip.repairs.frames_lost == clip.repairs.frames_damaged == 0
    for frame, known in zip(clip.frames[:25], whole.frames, strict=True):
        np.testing.assert_array_equal(frame.image, known.image)


@pytest.mark.parametrize("containers", [("mp4",), ("webm",)])
def test_audio_of_another_codec_behind_aac_in_mpeg_ts(tmp_path, containers) -> None:
    """The clip is read, what no decoder of the first codec understands is counted."""
    parts = [
        clips.make_clip(tmp_path / f"{number}.ts", seconds=1, fps=FPS, **kind)
        for number, kind in enumerate((H264, OTHER_AUDIO))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_clip(path, ClipSelection(audio=containers))
    assert len(clip.frames) == 50
    assert clip.repairs.describe() == {"clock_corrections": 1, "audio_packets_lost": 32}
    track = clip.info.audio[0]
    assert sum(packet.duration for packet in clip.packets) * track.time_base >= 1
