import csv
import dataclasses
import io
import resource
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from service.media.video.writing.frames_writer import FramesWriter
from service.media.video.writing.result_writer import VideoWriteError
from tests.helpers import decode
from tests.video_copies import INFO

CLOCK = dataclasses.replace(INFO, time_base=Fraction(1, 1000), origin_pts=5000)


def make_cutout(level: int) -> np.ndarray:
    return np.random.default_rng(level).integers(0, 256, (64, 96, 4), np.uint8)


def read_table(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read("timestamps.csv").decode())))


def test_pictures_come_back_exactly_with_their_times(tmp_path):
    times = [(5000, 40), (5040, 40), (5100, None), (5900, 70)]
    with FramesWriter(tmp_path / "frames.zip", CLOCK) as writer:
        for level, (pts, duration) in enumerate(times):
            writer.write_frame(make_cutout(level), pts, duration)
    assert (writer.width, writer.height, writer.padded) == (96, 64, (0, 0))
    with zipfile.ZipFile(tmp_path / "frames.zip") as archive:
        table = read_table(archive)
        for level, row in enumerate(table):
            assert np.array_equal(decode(archive.read(row["name"])), make_cutout(level))
    assert [row["pts_s"] for row in table] == [
        "0.000000000",
        "0.040000000",
        "0.100000000",
        "0.900000000",
    ]
    assert [float(row["duration_s"]) for row in table] == [0.04, 0.06, 0.8, 0.07]


def test_last_picture_without_a_duration_lasts_like_the_one_before(tmp_path):
    with FramesWriter(tmp_path / "frames.zip", CLOCK) as writer:
        for pts in (5000, 5040, 5100):
            writer.write_frame(make_cutout(0), pts, None)
    with zipfile.ZipFile(tmp_path / "frames.zip") as archive:
        assert [float(row["duration_s"]) for row in read_table(archive)] == [0.04, 0.06, 0.06]


@pytest.mark.parametrize(
    ("image", "pts"),
    [
        (np.zeros((64, 96, 3), np.uint8), 6000),
        (np.zeros((63, 96, 4), np.uint8), 6000),
        (np.zeros((64, 96, 4), np.float32), 6000),
        (np.zeros((64, 96, 4), np.uint8), 5000),
    ],
)
def test_frame_that_does_not_fit_ends_the_result(tmp_path, image, pts):
    writer = FramesWriter(tmp_path / "frames.zip", CLOCK)
    writer.write_frame(make_cutout(0), 5000, 40)
    with pytest.raises(VideoWriteError):
        writer.write_frame(image, pts, 40)
    assert list(tmp_path.iterdir()) == []


def test_abort_and_no_frame_leave_nothing(tmp_path):
    writer = FramesWriter(tmp_path / "frames.zip", CLOCK)
    writer.write_frame(make_cutout(0), 5000, 40)
    writer.abort()
    writer.abort()
    with pytest.raises(VideoWriteError, match="no frame"):
        FramesWriter(tmp_path / "frames.zip", CLOCK).close()
    with pytest.raises(VideoWriteError):
        FramesWriter(tmp_path / "none" / "frames.zip", CLOCK)
    assert list(tmp_path.iterdir()) == []


def test_disk_limit_is_an_error_with_its_cause(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(VideoWriteError) as caught:
            with FramesWriter(tmp_path / "frames.zip", CLOCK) as writer:
                for pts in range(5000, 5020):
                    writer.write_frame(make_cutout(pts), pts, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError) and caught.value.file == "frames.zip"
    assert list(tmp_path.iterdir()) == []
