"""Edit lists of MP4 that FFmpeg does not follow: pauses, still pictures, other speeds."""

import numpy as np
import pytest

from service.media.video.types import UndecodableVideo
from tests import clips
from tests.edit_lists import make_editable, set_edits
from tests.video_copies import copy, hear, read_clip

FPS = 25
MEDIA_ZERO = 1024  # where the media begin, in ticks of both tracks


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An MP4 of 6 s with B-frames; until its fourth second it is dark and silent."""
    return make_editable(tmp_path_factory.mktemp("edits") / "plain.mp4", seconds=6, event_s=3)


@pytest.fixture
def edited(plain, tmp_path):
    """Return what writes the clip with these edits of its tracks: seconds, start and speed."""

    def write(*edits: tuple[float, float, float], tracks=(0, 1)):
        rates = {0: 12_800, 1: clips.SAMPLE_RATE}
        ticks = {
            track: [
                (round(s * 1000), -1 if at < 0 else round(at * rates[track]) + MEDIA_ZERO, speed)
                for s, at, speed in edits
            ]
            for track in tracks
        }
        return set_edits(plain, tmp_path / "edited.mp4", ticks)

    return write


def count(start_s: float, frames: int, fps: float = FPS) -> list[float]:
    return [start_s + index / fps for index in range(frames)]


def test_pause_that_an_edit_list_makes(edited, tmp_path) -> None:
    """Nothing is shown and nothing is heard for half a second; no frame is made up for it."""
    path = edited((1, 3, 1), (0.5, -1, 1), (1, 0, 1))
    clip = read_clip(path)
    assert clip.times == pytest.approx([*count(0, 25), *count(1.5, 25)], abs=0.001)
    assert [frame.image.mean() > 20 for frame in clip.frames] == [True] * 25 + [False] * 25
    assert clip.repairs.describe() == {}
    result = tmp_path / "result.mp4"
    copy(path, result)
    assert read_clip(result).times == pytest.approx(clip.times, abs=0.001)
    heard = np.flatnonzero(hear(result) > 0.05) / 100  # the last packet may go on a little
    assert heard[0] == pytest.approx(0, abs=0.02) and heard[-1] == pytest.approx(1, abs=0.05)


def test_pause_at_the_end_of_an_edit_list(edited) -> None:
    clip = read_clip(edited((1, 0, 1), (5, -1, 1)))
    assert clip.times == pytest.approx(count(0, 25), abs=0.001)
    assert clip.repairs.describe() == {}


def test_picture_that_an_edit_list_holds(edited) -> None:
    """Speed 0: the picture at 3 s, the first bright one, stands for two seconds."""
    clip = read_clip(edited((1, 0, 1), (2, 3, 0), (1, 0, 1)))
    assert clip.times == pytest.approx([*count(0, 25), 1.0, *count(3, 25)], abs=0.001)
    seen = [frame.image.mean() > 20 for frame in clip.frames]
    assert seen == [False] * 25 + [True] + [False] * 25
    assert clip.frames[25].duration * clip.info.time_base == 2
    assert clip.repairs.describe() == {}


@pytest.mark.parametrize(("speed", "frames"), [(2, 100), (0.5, 25)])
def test_speed_of_an_edit_list(edited, speed: float, frames: int) -> None:
    """Pictures come at the speed that is asked for; the audio keeps its own."""
    clip = read_clip(edited((2, 1, speed), tracks=[0]))
    assert clip.times == pytest.approx(count(0, frames, FPS * speed), abs=0.001)
    assert clip.repairs.describe() == {}
    assert len(clip.info.audio) == 1


def test_speed_of_audio_is_left_out_and_told(edited) -> None:
    clip = read_clip(edited((1, 0, 1), (1, 1, 2)))
    assert clip.times == pytest.approx([*count(0, 25), *count(1, 50, 50)], abs=0.001)
    assert clip.info.audio == ()
    assert clip.repairs.describe() == {"audio_tracks_lost": 1}


def test_parts_that_play_backwards_are_refused(edited) -> None:
    with pytest.raises(UndecodableVideo, match="plays parts of it backwards"):
        read_clip(edited((1, 0, 1), (1, 1, -1)))
