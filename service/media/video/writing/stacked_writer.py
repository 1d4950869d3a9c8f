"""Write colour and matte one above the other in one MP4, for players without alpha."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from service.media.colour.planes import YuvPicture
from service.media.video.types import Image, VideoInfo
from service.media.video.writing.encoders import Encoding
from service.media.video.writing.writer import VideoWriter


class StackedWriter(VideoWriter):
    """A VideoWriter of straight RGBA frames, (H, W, 4): colour above, alpha in grey below.

    Each half has H rows, one more where H is odd, so that no sample of the colour difference
    belongs to both.
    """

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding, *, threads: int) -> None:
        rows_added = info.height % 2
        half = info.height + rows_added
        super().__init__(path, replace(info, height=2 * half), encoding, threads=threads)
        self._shapes = [(info.height, info.width, 4)]
        self._rows_added = rows_added
        self.padded = self.padded[0], 2 * rows_added

    @property
    def picture_size(self) -> tuple[int, int]:
        return self.width - self.padded[0], (self.height - self.padded[1]) // 2

    def _write_frame(self, image: Image | YuvPicture, pts: int, duration: int | None) -> None:
        assert not isinstance(image, YuvPicture)  # which has no alpha
        if self._rows_added:
            image = np.pad(image, ((0, self._rows_added), (0, 0), (0, 0)), "edge")
        height, width = image.shape[:2]
        stacked = np.empty((2 * height, width, 3), np.uint8)
        stacked[:height] = image[:, :, :3]
        stacked[height:] = image[:, :, 3:]
        super()._write_frame(stacked, pts, duration)
