"""What `matte live` sends: the frames of a webcam or a stream, or of a clip."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from cli.local import OWN_FILES, explain
from service.errors import MattingError
from service.media.decoder.client import Decoder
from service.media.video.pixel_shape import (
    choose_square_size,
    describe_square_pictures,
    stretch,
)
from service.media.video.types import ClipSelection, VideoFrame
from service.settings import load_settings

DEFAULT_FPS = 30.0
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]


class SourceError(Exception):
    """The clip or the webcam cannot be read; the text names it."""


class CameraSource:
    """A webcam by its number, a device or a stream; a frame has the time when it came, by `clock`.

    Raises SourceError.
    """

    told: dict[str, Any] = {}

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # one line says it
        self._capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
        if not self._capture.isOpened():
            kind = "no webcam has this number" if name.isdigit() else "cannot be read as a clip"
            raise SourceError(f"{name}: {kind}")
        self.fps = choose_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def read_frames(self) -> Iterator[tuple[float, bytes]]:
        """Yield JPEGs with their times in seconds, the first one's is 0, until the end."""
        start_s: float | None = None
        while True:
            found, image = self._capture.read()
            if not found:
                return
            time_s = self._clock()
            start_s = time_s if start_s is None else start_s
            yield time_s - start_s, to_jpeg(image)


class ClipSource:
    """A clip, decoded as `matte video` does it; frames have its own times.

    `told`: what became of it, for people, known after the last frame. Raises SourceError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.told: dict[str, Any] = {}
        folder = Path(tempfile.gettempdir())
        settings = load_settings(data_dir=folder, decoders=1, **OWN_FILES)
        self._file = path.open("rb")
        self._decoder: Decoder | None = None
        try:
            self._decoder = Decoder(settings)
            nothing_to_hear = ClipSelection(audio=())
            self._info = self._decoder.open_video(
                self._file, nothing_to_hear, max_s=settings.video_max_s
            )
        except MattingError as error:
            self.__exit__()
            raise self._refuse(error) from None
        self.fps = choose_fps(float(self._info.average_rate or 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._file.close()

    def read_frames(self) -> Iterator[tuple[float, bytes]]:
        """Yield JPEGs with their times in seconds, the first one's is 0, until the end."""
        assert self._decoder is not None
        size = choose_square_size(self._info)
        first: int | None = None
        try:
            for item in self._decoder.read_video(self._info):
                if isinstance(item, VideoFrame):
                    first = item.pts if first is None else first
                    time_s = float((item.pts - first) * self._info.time_base)
                    yield time_s, to_jpeg(stretch(item.flat, size)[:, :, ::-1])
        except MattingError as error:
            raise self._refuse(error) from None
        self.told = describe_square_pictures(self._info) | self._decoder.repairs.describe()

    def _refuse(self, error: MattingError) -> SourceError:
        return SourceError(f"{self._path}: cannot be read as a clip: {explain(error)}")


def open_source(name: str) -> CameraSource | ClipSource:
    """Open a webcam by its number, a stream by its address, else a clip; raises SourceError."""
    path = Path(name)
    if name.isdigit() or "://" in name or (path.exists() and not path.is_file()):
        return CameraSource(name)
    if not path.exists():
        raise SourceError(f"{name}: there is no such file")
    return ClipSource(path)


def choose_fps(rate: float) -> float:
    return rate if 1 <= rate <= 240 else DEFAULT_FPS


def to_jpeg(image: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 BGR as a JPEG."""
    return cv2.imencode(".jpg", np.ascontiguousarray(image), JPEG)[1].tobytes()
