"""A clip cut into segments that are matted apart: the results of the whole clip."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import service.clips.segment_run
from service.clips.join import matte_in_segments
from service.clips.matte import MattedClip, ProgressCallbacks, matte_clip
from service.clips.outputs import NAMES, OUTPUTS, OutputName
from service.clips.plan import ClipPlan
from service.clips.segment_run import matte_segment
from service.clips.segments import (
    ClipSegment,
    DistributedClip,
    FrameKey,
    SegmentResult,
    Submit,
    make_key,
)
from service.errors import DecoderCrashed, ImpossibleOutput
from service.frames.background_clip import BackgroundClip
from service.frames.network import prepare_frame
from service.frames.render import RenderOptions
from service.media.decoder.client import Decoder
from service.media.video.types import VideoFrame, VideoInfo
from service.media.video.writing.coded import check_parameters, to_annex_b
from service.settings import Settings
from tests.clips import make_clip, truncate
from tests.compat_helpers import see_person
from tests.fakes import FAKE_INFO
from tests.segments import FunctionNetwork
from tests.videos import Clip

FAST_START = {"movflags": "faststart"}
SETTINGS = Settings()
JOINABLE = [name for name in NAMES if OUTPUTS[name].is_joinable]
TIMES = [round(33.4 * i + (i % 3) * 4) for i in range(23)]  # no even distance


def flicker(tensor: np.ndarray) -> np.ndarray:
    """Return a matte that flickers with the pictures, so that smoothing has work."""
    matte = see_person(tensor[np.newaxis])[0]
    return matte if tensor.mean() * 9777 % 1 > 0.4 else matte * np.float32(0.7)


NETWORK = FunctionNetwork(lambda picture: prepare_frame(picture, FAKE_INFO, None, 1.5), flicker)


@dataclass(frozen=True)
class LocalRunner:
    """Mattes segments one after the other in a thread of this process."""

    frames: int = 8
    ahead: int = 2

    @contextmanager
    def open(self, clip: DistributedClip) -> Iterator[Submit]:
        def work(info: VideoInfo, segment: ClipSegment) -> SegmentResult:
            rest = clip.plan, info, segment, threading.Event()
            with Path(clip.file.name).open("rb") as file:
                return matte_segment(SETTINGS, NETWORK, file, *rest)

        with ThreadPoolExecutor(1) as pool:
            yield partial(pool.submit, work)


def make_plan(*outputs: OutputName, **changes) -> ClipPlan:
    defaults = {
        "render_options": RenderOptions(),
        "ref_size": None,
        "ofd_threshold": 0.1,
        "keep_audio": True,
        "crf": 12,
        "preset": "veryfast",
    }
    return ClipPlan(outputs=outputs, **(defaults | changes))


def matte_both(source: Path, plan: ClipPlan, folder: Path) -> tuple[MattedClip, MattedClip]:
    """Return the clip matted in one piece, and in segments."""
    rest = ProgressCallbacks(), threading.Event()
    with source.open("rb") as file, closing(Decoder(SETTINGS)) as decoder:
        with closing(Decoder(SETTINGS)) as other:
            run = partial(matte_clip, SETTINGS, NETWORK, decoder, file, plan, folder, *rest)
            whole = run(max_s=60, background_decoder=other)
        return whole, matte_parts(source, plan, folder / "segments", decoder)


def matte_parts(
    source: Path, plan: ClipPlan, folder: Path, decoder: Decoder, *, frames: int = 8
) -> MattedClip:
    folder.mkdir(exist_ok=True)
    rest = ProgressCallbacks(), threading.Event()
    with source.open("rb") as file:
        clip = DistributedClip(SETTINGS, "fake", plan, file)
        return matte_in_segments(LocalRunner(frames), clip, decoder, folder, *rest, max_s=60)


def check_same_frames(whole: MattedClip, segments: MattedClip) -> None:
    """Pictures before encoding are equal bit by bit, and so is what the report says."""
    ours, theirs = (
        next(r.path for r in clip.results if r.path.suffix == ".zip").read_bytes()
        for clip in (whole, segments)
    )
    assert ours == theirs
    assert segments.report.describe(whole.info) == whole.report.describe(whole.info)
    assert replace(segments.report, timeline=None) == replace(whole.report, timeline=None)
    assert segments.info == whole.info
    assert segments.repairs == whole.repairs
    assert segments.background_changes == whole.background_changes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return make_clip(folder / "a.mkv", times=TIMES, time_base=Fraction(1, 1000))


def test_segments_have_the_frames_of_the_whole_clip(source, tmp_path) -> None:
    whole, segments = matte_both(source, make_plan(*JOINABLE), tmp_path)
    check_same_frames(whole, segments)
    assert whole.report.pixels_smoothed > 0
    for one, other in zip(whole.results, segments.results, strict=True):
        if one.path.suffix == ".zip":
            continue
        ours, theirs = (Clip(result.path.read_bytes()) for result in (one, other))
        assert theirs.times == ours.times
        assert abs(theirs.duration - ours.duration) <= Fraction(1, 30), one.path.name
        assert theirs.sound == ours.sound
        difference = np.abs(np.array(ours.images, int) - np.array(theirs.images, int))
        assert difference.mean() < 2, one.path.name


def make_kind(kind: str, folder: Path) -> tuple[Path, dict]:
    """Return a clip that is not read alike from the middle, and what is wanted of it."""
    if kind == "stream":  # begins at a time of its own, and each picture is made of its neighbours
        path = make_clip(folder / "a.ts", fps=15, seconds=1.2, start_s=7, interlaced=True)
        return path, {"deinterlace": "always"}
    # Long groups, frames left out by a rate that counts from the first, a clip behind all of it.
    path = make_clip(folder / "a.mp4", fps=20, seconds=1.5)
    behind = make_clip(folder / "b.mp4", fps=30, seconds=0.5, tone=False, options=FAST_START)
    short = truncate(folder / "c.mp4", behind, 0.8)  # which is told, whoever reads it
    background = BackgroundClip(short.open("rb"))
    selected = {"start_s": 0.22, "end_s": 1.45, "max_fps": 13.0}
    return path, {"render_options": RenderOptions(background=background), **selected}


@pytest.mark.parametrize("kind", ["stream", "selected"])
def test_segments_are_those_of_the_clip_whatever_its_kind(kind, tmp_path) -> None:
    path, changes = make_kind(kind, tmp_path)
    plan = make_plan("frames", "composite", **changes)
    whole, segments = matte_both(path, plan, tmp_path)
    check_same_frames(whole, segments)
    assert whole.report.frames > LocalRunner.frames
    assert ("cut_short" in whole.background_changes) is (kind == "selected")
    ours, theirs = (Clip(c.results[1].path.read_bytes()) for c in (whole, segments))
    assert theirs.times == ours.times
    assert np.abs(np.array(ours.images, int) - np.array(theirs.images, int)).mean() < 4
    if isinstance(plan.render_options.background, BackgroundClip):
        plan.render_options.background.file.close()


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with closing(Decoder(SETTINGS)) as decoder:
        yield decoder


def test_a_machine_that_decodes_other_frames_is_refused(
    source, decoder, tmp_path, monkeypatch
) -> None:
    def make_other_key(frame: VideoFrame) -> FrameKey:
        return replace(make_key(frame), checksum=0)

    monkeypatch.setattr(service.clips.segment_run, "make_key", make_other_key)
    with pytest.raises(DecoderCrashed, match="other frames"):
        matte_parts(source, make_plan("frames"), tmp_path, decoder, frames=100)
    assert not any(tmp_path.iterdir())


def test_a_segment_that_lost_a_frame_ends_the_join(source, decoder, tmp_path, monkeypatch) -> None:
    def lose_one(*args) -> SegmentResult:
        *rest, segment, stop = args
        fewer = replace(segment, frames=segment.frames[:-1], after=segment.frames[-1:])
        return service.clips.segment_run.matte_segment(*rest, fewer, stop)

    monkeypatch.setattr(sys.modules[__name__], "matte_segment", lose_one)
    with pytest.raises(ImpossibleOutput):
        matte_parts(source, make_plan("alpha", "frames"), tmp_path, decoder, frames=100)
    assert not any(tmp_path.iterdir())


def test_parameters_of_another_encoding_are_refused() -> None:
    own = b"\0\0\0\1\x67abc\0\0\0\1\x68de"
    check_parameters(b"\1...\0\x04\x67abc\1\0\x03\x68de", own)
    with pytest.raises(ValueError, match="other parameters"):
        check_parameters(b"\1...\0\x04\x67abX\1\0\x03\x68de", own)
    assert to_annex_b(b"\0\0\0\2ab\0\0\0\1c") == b"\0\0\0\1ab\0\0\0\1c"
    with pytest.raises(ValueError, match="cut off"):
        to_annex_b(b"\0\0\0\3ab")
