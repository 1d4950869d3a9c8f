"""Colour above, matte below: every frame, at its time, nothing mixed."""

from dataclasses import replace

import av
import numpy as np
import pytest

from service.media.video.writing.encoders import h264
from service.media.video.writing.result_writer import VideoWriteError
from service.media.video.writing.stacked_writer import StackedWriter
from tests.video_copies import INFO


@pytest.mark.parametrize("size", [(64, 48), (63, 49)], ids=["even", "odd"])
def test_colour_is_above_and_alpha_below(tmp_path, size: tuple[int, int]) -> None:
    height, width = size
    info = replace(INFO, width=width, height=height)
    image = np.zeros((height, width, 4), np.uint8)
    image[:, :, :3] = (200, 30, 60)
    image[:, width // 2 :, 3] = 255
    with StackedWriter(tmp_path / "stacked.mp4", info, h264(1), threads=1) as writer:
        for pts in (0, 1, 2):
            writer.write_frame(image, pts, 1)
    half = height + height % 2
    assert (writer.height, writer.padded) == (2 * half, (width % 2, 2 * (height % 2)))
    assert writer.picture_size == (width, height)
    with av.open(str(tmp_path / "stacked.mp4")) as file:
        frames = list(file.decode(video=0))
    assert len(frames) == 3
    assert (frames[0].width, frames[0].height) == (width + width % 2, 2 * half)
    luma, blue, red = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frames[1].planes
    )
    for plane, rows in ((luma, half), (blue, half // 2 - 1), (red, half // 2 - 1)):
        assert np.ptp(plane[:rows].astype(int)) <= 3, "but for the row at the seam, in the codec"
    assert abs(red[0, 0] - 128) > 40 and np.abs(red[half // 2 + 1 :].astype(int) - 128).max() <= 3
    alpha = luma[half:].astype(int)
    assert alpha[:, : width // 2 - 2].max() <= 19 and alpha[:, width // 2 + 2 :].min() >= 232


def test_frames_of_another_shape_are_refused(tmp_path) -> None:
    with pytest.raises(VideoWriteError):
        with StackedWriter(tmp_path / "stacked.mp4", INFO, h264(), threads=1) as writer:
            writer.write_frame(np.zeros((INFO.height, INFO.width, 3), np.uint8), 0, 1)
