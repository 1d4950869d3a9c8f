"""Clips that lack a piece, hold more than one clip, or are turned in a way that is not applied."""

import struct
from pathlib import Path

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


def test_fragments_whose_clock_goes_back_are_moved_but_for_the_first(fragmented, tmp_path) -> None:
    """The library leaves that one out, as where recordings of browsers were joined."""
    whole = read_clip(fragmented)
    joined = tmp_path / "a.mp4"
    joined.write_bytes(fragmented.read_bytes() * 2)
    clip = read_clip(joined)
    told = clip.repairs.describe()
    lost = 2 * len(whole.packets) - len(clip.packets)
    assert told.pop("audio_packets_lost") in (lost, lost + 1)  # one may be kept for the next
    assert told == {"frames_lost": 200 - len(clip.frames), "clock_corrections": 1}
    assert 0 < 200 - len(clip.frames) <= 13
    assert clip.times == pytest.approx([n / FPS for n in range(len(clip.frames))], abs=0.05)


@pytest.mark.parametrize(
    ("turn", "applied", "ignored"), [(33, 0, 33), (80, 90, 10), (180.4, 180, 0), (-100, 270, 10)]
)
def test_turn_that_is_no_quarter_is_told(tmp_path, turn, applied, ignored) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", seconds=0.4, rotation=turn, tone=False)
    clip = read_clip(path)
    assert clip.info.rotation_deg == applied
    told = {"turn_ignored_deg": ignored} if ignored else {}
    assert clip.repairs.describe() == pytest.approx(told, abs=0.1)
