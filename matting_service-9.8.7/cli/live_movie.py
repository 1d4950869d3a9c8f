"""Encode live frames to H.264, into a file or to standard output."""

import sys
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

TICKS_PER_S = 90_000


class MovieWriter:
    """A movie of pictures, about `fps` a second; without pictures there is no file.

    `name` says the container by its ending; `-` is Matroska on standard output, without delay.
    """

    def __init__(self, name: str, fps: float) -> None:
        self._name = name
        self._rate = Fraction(fps).limit_denominator(1001)
        self._container = None
        self._stream = None
        self._last_ticks = -1

    def add(self, picture: np.ndarray, time_s: float) -> None:
        """Take the next picture, (H, W, 3) uint8 BGR, shown from `time_s` on.

        An odd last row or column is left out.
        """
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        if self._container is None:
            self._open(even.shape[1], even.shape[0])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="bgr24")
        self._last_ticks = max(round(time_s * TICKS_PER_S), self._last_ticks + 1)
        frame.pts, frame.time_base = self._last_ticks, Fraction(1, TICKS_PER_S)
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
        self._stream.codec_context.time_base = Fraction(1, TICKS_PER_S)

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
