"""Writers of results that are refused, given up, or out of room."""

import dataclasses
import resource

import numpy as np
import pytest

from service.media.video.writing.encoders import h264
from service.media.video.writing.result_writer import VideoWriteError
from service.media.video.writing.writer import VideoWriter
from tests import clips
from tests.video_copies import INFO, read


@pytest.mark.parametrize("options", [{"crf": 52}, {"crf": -1}, {"preset": "no"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="crf"):
        h264(**options)


def test_no_thread_at_all_is_refused_without_a_file(tmp_path):
    with pytest.raises(ValueError, match="threads"):
        VideoWriter(tmp_path / "result.mp4", INFO, threads=0)
    assert list(tmp_path.iterdir()) == []


def test_abort_leaves_nothing(tmp_path):
    writer = VideoWriter(tmp_path / "result.mp4", INFO)
    for pts in range(40):
        writer.write_frame(clips.picture(pts, (96, 64)), pts, 1)
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(VideoWriteError, match="given up"):
        writer.close()
    with pytest.raises(VideoWriteError, match="given up"):
        writer.write_frame(clips.picture(0, (96, 64)), 40, 1)


def test_exception_inside_aborts(tmp_path):
    with pytest.raises(KeyError), VideoWriter(tmp_path / "result.mp4", INFO) as writer:
        writer.write_frame(clips.picture(0, (96, 64)), 0, 1)
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_harmless(tmp_path):
    writer = VideoWriter(tmp_path / "result.mp4", INFO)
    writer.write_frame(clips.picture(0, (96, 64)), 0, 1)
    writer.close()
    writer.close()
    writer.abort()
    assert len(read(tmp_path / "result.mp4")[1]) == 1


def test_result_without_frames_is_refused(tmp_path):
    with pytest.raises(VideoWriteError, match="no frame"):
        VideoWriter(tmp_path / "result.mp4", INFO).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "pts"),
    [
        (np.zeros((64, 95, 3), np.uint8), 1),
        (np.zeros((64, 95), np.uint8), 1),
        (np.zeros((64, 96, 4), np.uint8), 1),
        (np.zeros((64, 96, 3), np.float32), 1),
        (np.zeros((64, 96, 3), np.uint8), 0),
        (np.zeros((64, 96, 3), np.uint8), -1),
        (np.zeros((64, 96, 3), np.uint8), 1 << 53),
    ],
)
def test_frame_that_does_not_fit_ends_the_result(tmp_path, image, pts):
    writer = VideoWriter(tmp_path / "result.mp4", INFO)
    writer.write_frame(clips.picture(0, (96, 64)), 0, 1)
    with pytest.raises(VideoWriteError):
        writer.write_frame(image, pts, 1)
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_packet_of_an_unknown_track_ends_the_result(tmp_path):
    source = clips.make_clip(tmp_path / "a.mp4", seconds=0.2)
    info, _, packets = read(source)
    writer = VideoWriter(tmp_path / "result.mp4", info)
    with pytest.raises(VideoWriteError, match="unknown audio track"):
        writer.write_audio(dataclasses.replace(packets[0], track=1))
    assert list(tmp_path.iterdir()) == [source]


def test_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(VideoWriteError):
        VideoWriter(tmp_path / "none" / "result.mp4", INFO)


def test_disk_limit_is_an_error_with_its_cause(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    random = np.random.default_rng(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(VideoWriteError) as caught:
            with VideoWriter(tmp_path / "result.mp4", INFO, h264(crf=0)) as writer:
                for pts in range(60):
                    writer.write_frame(random.integers(0, 256, (64, 96, 3), np.uint8), pts, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError)
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
