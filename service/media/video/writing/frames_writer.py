"""Write a result as a ZIP of RGBA PNGs with a table of times."""

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from service.media.audio.types import AudioPacket
from service.media.colour.planes import YuvPicture
from service.media.image.writer import encode_image
from service.media.video.pixel_shape import choose_square_size, stretch
from service.media.video.types import Image, VideoInfo
from service.media.video.writing.result_writer import FrameTime, ResultWriter

TABLE = "timestamps.csv"
COLUMNS = ("frame", "name", "pts_s", "duration_s")


class FramesWriter(ResultWriter):
    """Writes a ZIP of `frame_000000.png` and so on, (H, W, 4) straight RGBA, and `timestamps.csv`.

    The table says in seconds when each is shown and for how long; times count as in VideoWriter.
    The PNGs are stored as they are: they would not shrink any more. Their pixels are square, as PNG
    viewers expect. There is no audio.
    """

    def __init__(self, path: Path, info: VideoInfo) -> None:
        super().__init__(path, info, channels=4)
        self.width, self.height = choose_square_size(info)
        self._times: list[tuple[int, int]] = []  # pts and duration, ticks of the clip
        self._open_files = ExitStack()
        with self._abort_on_error():
            archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
            self._archive = self._open_files.enter_context(archive)

    def _write_frame(self, image: Image | YuvPicture, pts: int, duration: int | None) -> None:
        assert not isinstance(image, YuvPicture)  # which has no alpha
        image = stretch(image, (self.width, self.height))
        self._add(encode_image(image, "png", quality=100, compression=1), pts, duration)

    def _copy_frames(
        self, file: BinaryIO, times: Sequence[FrameTime], on_frame: Callable[[int], None]
    ) -> None:
        with zipfile.ZipFile(file) as archive:
            if len(archive.namelist()) != len(times) + 1:  # and the table
                raise ValueError(f"a segment has no {len(times)} frames")
            for index, (pts, duration) in enumerate(times):
                self._add(archive.read(_name_frame(index)), pts, duration)

    def _add(self, data: bytes, pts: int, duration: int | None) -> None:
        if self._times:  # what was shown lasts until now, whatever its own duration said
            before = self._times[-1][0]
            self._times[-1] = before, pts - before
            duration = duration or pts - before
        self._times.append((pts, duration or 0))
        self._archive.writestr(zipfile.ZipInfo(_name_frame(len(self._times) - 1)), data)

    def _write_audio(self, packet: AudioPacket) -> None:
        """Pictures have no audio."""

    def _finish(self) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for index, (pts, duration) in enumerate(self._times):
            times = (pts - self._info.origin_pts, duration)
            seconds = [f"{float(ticks * self._info.time_base):.9f}" for ticks in times]
            table.writerow([index, _name_frame(index), *seconds])
        self._archive.writestr(zipfile.ZipInfo(TABLE), text.getvalue())
        self._open_files.close()

    def _release(self) -> None:
        self._open_files.close()


def _name_frame(index: int) -> str:
    return f"frame_{index:06d}.png"
