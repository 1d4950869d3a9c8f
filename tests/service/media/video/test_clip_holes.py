"""Clips of which a part is missing without a trace in their structure: clusters, tags, pictures."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from service.media.video.container.elements import CLUSTER, SEGMENT, read_element
from service.media.video.types import ClipSelection
from tests import clips
from tests.clip_kinds import copy_packets
from tests.video_copies import read_clip

FPS = 25
LIVE = {"live": "1", "cluster_time_limit": "500"}
X264 = {
    "plain": "",
    "open groups": "open-gop=1:keyint=15:bframes=5:b-pyramid=normal",
    "strict pyramid, slices": "bluray-compat=1:b-pyramid=strict:slices=4",
    "fields": "tff=1:keyint=12",
    "no key frames": "intra-refresh=1:keyint=20",
    "one reference": "ref=1:bframes=0",
    "scaling lists": "cqm=jvt",
}


def list_clusters(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of the clusters of a Matroska."""
    at, clusters = 0, []
    while (element := read_element(data[at : at + 16])) is not None:
        name, content, size = element
        if name == CLUSTER:
            clusters.append((at, at + content + size))
        at += content + (0 if name == SEGMENT else size)
    return clusters


def leave_out(source: Path, target: Path, first: int, end: int) -> Path:
    """Copy a clip without the packets that begin within these milliseconds."""
    return copy_packets(
        source, target, lambda packet: not first <= packet.pts * packet.time_base * 1000 < end
    )


@pytest.fixture
def make_mpeg(monkeypatch) -> Callable[..., Path]:
    """Return what makes a clip of 60 pictures in groups of 12 with two B pictures in a row."""

    def make(path: Path, codec: str = "mpeg2video", **options: str) -> Path:
        monkeypatch.setitem(clips._PRESETS, codec, {"bf": "2", "g": "12"} | options)
        return clips.make_clip(path, seconds=2.4, fps=FPS, codec=codec, tone=False)

    return make


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_cluster_that_is_missing_is_told(tmp_path, name: str) -> None:
    codec = "libvpx" if name == "a.webm" else "libx264"
    whole = clips.make_clip(tmp_path / name, seconds=3, fps=FPS, codec=codec, options=LIVE)
    assert read_clip(whole).repairs.describe() == {}
    data = whole.read_bytes()
    start, end = list_clusters(data)[2]
    path = tmp_path / f"cut-{name}"
    path.write_bytes(data[:start] + data[end:])
    clip = read_clip(path)
    assert 60 <= len(clip.frames) < 75
    assert clip.repairs.describe() == {"places_damaged": 1}


@pytest.mark.parametrize("size_bytes", [2, 8])
def test_clusters_that_do_not_say_how_long_they_are(tmp_path, size_bytes: int) -> None:
    """As browsers write them."""
    whole = clips.make_clip(tmp_path / "a.webm", seconds=3, fps=FPS, codec="libvpx", options=LIVE)
    data, parts, at = whole.read_bytes(), [], 0
    unknown = ((1 << 7 * size_bytes + 1) - 1).to_bytes(size_bytes)
    for start, end in list_clusters(data):
        _, content, _ = read_element(data[start : start + 16])
        parts += [data[at : start + 4], unknown, data[start + content : end]]
        at = end
    path = tmp_path / "unknown.webm"
    path.write_bytes(b"".join(parts))
    clip = read_clip(path)
    assert len(clip.frames) == 75
    assert clip.repairs.describe() == {}
    path.write_bytes(b"".join(parts) * 2)
    clip = read_clip(path)
    assert len(clip.frames) == 150
    assert clip.repairs.describe() == {"clock_corrections": 1}


def test_tags_of_an_flv_that_are_missing_are_told(tmp_path) -> None:
    codecs = {"codec": "flv", "sound_codec": "libmp3lame"}
    whole = clips.make_clip(tmp_path / "a.flv", seconds=3, fps=FPS, **codecs)
    assert read_clip(whole).repairs.describe() == {}
    clip = read_clip(leave_out(whole, tmp_path / "cut.flv", 1000, 1600))
    assert clip.repairs.describe() == {"places_damaged": 1}


@pytest.mark.parametrize(
    ("name", "options"), [("index.mkv", {"cluster_time_limit": "500"}), ("live.mkv", LIVE)]
)
@pytest.mark.parametrize("kind", ["slides", "uneven", "silence"])
def test_pauses_are_no_holes(tmp_path, kind: str, name: str, options: dict) -> None:
    """A slide show, a screen that is recorded as it changes, audio that is left out when silent."""
    times = {
        "slides": [0, 2000, 5500, 6000],
        "uneven": [0, 40, 80, 900, 940, 2500, 2540, 2580, 4000],
        "silence": None,
    }[kind]
    clock = {} if times is None else {"times": times, "time_base": clips.Fraction(1, 1000)}
    path = tmp_path / name
    clips.make_clip(path, seconds=4, fps=FPS, codec="libvpx", options=options, **clock)
    if kind == "silence":
        target = tmp_path / f"silent-{name}"
        path = copy_packets(
            path,
            target,
            lambda packet: packet.stream.type == "video" or not 50 <= packet.pts // 20 <= 100,
        )
    assert read_clip(path).repairs.describe() == {}


def test_pause_of_all_tracks_in_a_file_with_an_index_is_none(tmp_path) -> None:
    """Nothing is missing where each cluster is where the index says."""

    def pause(packet) -> bool:
        ticks = round(3 / packet.time_base) if packet.pts * packet.time_base > 1.5 else 0
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return True

    whole = clips.make_clip(tmp_path / "whole.webm", seconds=3, fps=FPS, codec="libvpx")
    path = copy_packets(whole, tmp_path / "paused.webm", pause)
    clip = read_clip(path)
    assert len(clip.frames) == 75 and clip.times[-1] > 5
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.flv"])
@pytest.mark.parametrize("kind", X264)
def test_pictures_that_are_missing_between_others_are_told(
    tmp_path, monkeypatch, kind: str, name: str
) -> None:
    """By the numbers of H.264: what follows is predicted from other pictures than were meant."""
    monkeypatch.setitem(
        clips._PRESETS, "libx264", {"preset": "veryfast", "crf": "20", "x264-params": X264[kind]}
    )
    whole = clips.make_clip(tmp_path / name, seconds=2.4, fps=FPS, tone=False)
    assert read_clip(whole).repairs.describe() == {}
    if kind == "plain":
        numbers = iter(range(100))
        path = copy_packets(
            whole, tmp_path / f"cut-{name}", lambda _: not 31 <= next(numbers) <= 40
        )
        clip = read_clip(path)
        assert len(clip.frames) == 50
        assert clip.repairs.describe() == {"places_damaged": 1}


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4", "a.ts"])
@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize("missing", [{20}, {18, 19, 20}, {26}], ids=["one", "three", "another"])
def test_pictures_of_mpeg_that_are_missing_are_told(
    tmp_path, make_mpeg, name: str, codec: str, missing: set[int]
) -> None:
    """Between two that others are predicted from; groups of 12, two B pictures in a row."""
    whole = make_mpeg(tmp_path / name, codec)
    assert read_clip(whole).repairs.describe() == {}
    numbers = iter(range(100))
    path = copy_packets(whole, tmp_path / f"cut-{name}", lambda _: next(numbers) not in missing)
    clip = read_clip(path)
    assert len(clip.frames) == 60 - len(missing)
    assert clip.repairs.describe()["places_damaged"] == 1


@pytest.mark.parametrize(
    "options",
    [{"flags": "+ilme+ildct"}, {"flags": "+cgop", "sc_threshold": "1000000000"}, {"bf": "0"}],
)
def test_whole_mpeg_and_its_parts_are_not_damaged(tmp_path, make_mpeg, options) -> None:
    whole = make_mpeg(tmp_path / "a.mkv", **options)
    assert "places_damaged" not in read_clip(whole).repairs.describe()
    for end in (17, 30, 31, 32):
        numbers = iter(range(100))
        path = copy_packets(whole, tmp_path / f"{end}.mkv", lambda _, n=numbers, e=end: next(n) < e)
        assert "places_damaged" not in read_clip(path).repairs.describe()
    part = ClipSelection(start_s=0.9, end_s=1.7)
    assert "places_damaged" not in read_clip(whole, part).repairs.describe()


def test_pictures_of_a_gif_without_their_times_are_counted(tmp_path) -> None:
    """The library takes them for one picture."""
    path = tmp_path / "a.gif"
    pictures = [Image.fromarray(clips.picture(index, (96, 64))) for index in range(4)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=0)
    assert b"\x21\xf9\x04" not in path.read_bytes()
    clip = read_clip(path)
    assert len(clip.frames) == 1
    assert clip.repairs.describe() == {"frames_lost": 3}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=10)
    assert read_clip(path).repairs.describe() == {}
