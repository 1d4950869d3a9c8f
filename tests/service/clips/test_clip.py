"""A whole clip to several results at once, with a network that sees an ellipse."""

import errno
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import service.clips.fan_out
import service.frames.render
from service.clips.matte import MattedClip, ProgressCallbacks, matte_clip, write_error
from service.clips.outputs import NAMES, OUTPUTS
from service.clips.plan import ClipPlan
from service.errors import ImpossibleOutput, InsufficientStorage
from service.frames.network import prepare_frame
from service.frames.render import RenderOptions
from service.media.decoder.client import Decoder
from service.media.video.types import ClipSelection, VideoFrame
from service.media.video.writing.frames_writer import FramesWriter
from service.media.video.writing.result_writer import VideoWriteError
from service.settings import Settings
from tests.clips import make_clip
from tests.compat_helpers import see_person
from tests.fakes import FAKE_INFO
from tests.segments import FunctionNetwork
from tests.videos import Clip, read_cutouts

FRAMES = 12
NETWORK = FunctionNetwork(
    lambda picture: prepare_frame(picture, FAKE_INFO, None, 1.5),
    lambda tensor: see_person(tensor[np.newaxis])[0],
)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(Settings())
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return make_clip(folder / "a.mkv", seconds=FRAMES / 10, fps=10, sound_codec="libmp3lame")


def make_plan(outputs, **changes) -> ClipPlan:
    defaults = {
        "render_options": RenderOptions(),
        "ref_size": None,
        "ofd_threshold": 0.1,
        "keep_audio": True,
        "crf": 12,
        "preset": "ultrafast",
    }
    return ClipPlan(outputs=tuple(outputs), **(defaults | changes))


def run(decoder: Decoder, source: Path, plan: ClipPlan, folder: Path, **watch) -> MattedClip:
    with source.open("rb") as file:
        return matte_clip(
            Settings(),
            NETWORK,
            decoder,
            file,
            plan,
            folder,
            ProgressCallbacks(**watch),
            threading.Event(),
            max_s=60,
        )


def test_all_outputs_come_from_one_pass(decoder, source, tmp_path, calls) -> None:
    seen: list[int] = []
    clip = run(decoder, source, make_plan(NAMES), tmp_path, on_frame=lambda: seen.append(1))
    assert calls.count("refine_planes") == calls.count("estimate_foreground") == FRAMES
    assert len(seen) == FRAMES == clip.report.frames
    assert [result.path.name for result in clip.results] == [OUTPUTS[n].file for n in NAMES]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [OUTPUTS[name].file for name in NAMES]
    )
    for name, result in zip(NAMES, clip.results, strict=True):
        content = result.path.read_bytes()
        assert result.content_type == OUTPUTS[name].content_type
        assert result.bytes == len(content)
        if name == "webp":  # which the library does not read
            assert Image.open(io.BytesIO(content)).n_frames == FRAMES
        elif name != "frames":
            assert len(Clip(content).times) == FRAMES
    webm, mov, pictures = (
        read_cutouts((tmp_path / OUTPUTS[name].file).read_bytes())
        for name in ("webm", "prores", "frames")
    )
    for index in (0, FRAMES - 1):
        expected = pictures[index].astype(int)
        assert np.abs(webm[index] - expected)[..., 3].max() <= 4
        assert np.abs(mov[index] - expected)[..., 3].max() <= 2


def test_each_container_gets_the_sound_in_a_codec_that_it_carries(
    decoder, source, tmp_path
) -> None:
    clip = run(decoder, source, make_plan(NAMES), tmp_path)
    before = Clip(source.read_bytes()).sound
    for result in clip.results:
        if result.path.suffix in (".zip", ".gif", ".webp"):
            continue
        with av.open(str(result.path)) as container:
            codecs = [s.codec_context.codec.canonical_name for s in container.streams.audio]
        if result.path.suffix == ".webm":
            assert codecs == ["opus"]
        else:
            assert codecs == ["mp3"]
            assert Clip(result.path.read_bytes()).sound == before
    assert [(t.codec, t.reencoded_from) for t in clip.info.audio] == [
        ("mp3", None),
        ("opus", "mp3"),
    ]


def test_one_result_gives_the_same_pictures_as_all_at_once(decoder, source, tmp_path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "one").mkdir()
    run(decoder, source, make_plan(["frames", "alpha", "green"]), tmp_path / "all")
    run(decoder, source, make_plan(["frames"]), tmp_path / "one")
    both = [(tmp_path / name / "frames.zip").read_bytes() for name in ("all", "one")]
    assert both[0] == both[1]


@pytest.mark.parametrize("when", ["in the middle", "at the end"])
def test_result_that_fails_takes_the_others_with_it(
    decoder, source, tmp_path, monkeypatch, when: str
) -> None:
    full = OSError(28, "No space left on device")
    calls = 0

    def fail(self, *arguments):
        nonlocal calls
        calls += 1
        if when == "at the end" or calls == 3:
            raise full

    monkeypatch.setattr(FramesWriter, "_finish" if when == "at the end" else "_write_frame", fail)
    with pytest.raises(InsufficientStorage):
        run(decoder, source, make_plan(["alpha", "frames", "webm"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_result_that_no_encoder_takes_is_named(decoder, source, tmp_path, monkeypatch) -> None:
    def refuse(*arguments, **options):
        raise VideoWriteError("The result could not be written.", "cutout.webm")

    monkeypatch.setattr(service.clips.fan_out, "open_writer", refuse)
    with pytest.raises(ImpossibleOutput, match="cutout.webm"):
        run(decoder, source, make_plan(["webm"]), tmp_path)


def test_part_of_a_clip_at_fewer_frames(decoder, source, tmp_path) -> None:
    """Frames 3 to 9 of ten a second, every second one of them."""
    plan = make_plan(["frames", "alpha"], start_s=0.3, end_s=1.0, max_fps=5.0)
    clip = run(decoder, source, plan, tmp_path)
    assert clip.report.frames == 4
    times = Clip((tmp_path / "alpha.mp4").read_bytes()).times
    assert [float(time) for time in times] == [0, 0.2, 0.4, 0.6]


@pytest.mark.parametrize(
    ("selection", "frames"),
    [({}, 12), ({"start_s": 0.2}, 10), ({"start_s": 0.3, "end_s": 0.5}, 2), ({"max_fps": 5}, 6)],
)
def test_frames_to_come_follow_from_what_is_wanted(decoder, source, selection, frames) -> None:
    with source.open("rb") as file:
        info = decoder.open_video(file, ClipSelection(**selection), max_s=60)
    assert info.frames_estimate == frames
    assert sum(isinstance(item, VideoFrame) for item in decoder.read_video(info)) == frames


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, 507),
        (errno.EDQUOT, 507),
        (errno.EIO, 500),
        (errno.EROFS, 500),
        (errno.EINVAL, 422),
    ],
)
def test_failure_of_the_disk_is_not_the_clip_s(number: int, status: int) -> None:
    error = VideoWriteError("The result could not be written.", "cutout.webm")
    error.__cause__ = OSError(number, "no")
    assert write_error(error).status == status
