"""Encode live frames to H.264, into a file or to standard output."""

import sys
from fractions import Fraction
from types import TracebackType

import av
import numpy as np


class MovieWriter:
    """A movie of pictures at `fps`; without pictures there is no file.

    `name` says the container by its ending; `-` is Matroska on standard output, without delay.
    """

    def __init__(self, name: str, fps: float) -> None:
        self._name = name
        self._rate = Fraction(fps).limit_denominator(1001)
        self._container = None
        self._stream = None
        self._frames = 0

    def add(self, picture: np.ndarray) -> None:
        """Take the next picture, (H, W, 3) uint8 BGR; an odd last row or column is left out."""
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        if self._container is None:
            self._open(even.shape[1], even.shape[0])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="bgr24")
        frame.pts, frame.time_base = self._frames, 1 / self._rate
        self._frames += 1
        self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int) -> None:
        if self._name == "-":
            self._container = av.open(sys.stdout.buffer, "w", format="matroska")
        else:
            self._container = av.open(self._name, "w")
        options = {"preset": "veryfast", "tune": "zerolatency"}
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"

    def __enter__(self) -> "MovieWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
