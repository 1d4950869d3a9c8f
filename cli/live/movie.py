"""Encode live frames to H.264, into a file or to standard output."""

import sys
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

from service.media.video.writing.yuv import BT709, YuvConverter, state_bt709

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
        self._converter: YuvConverter
        self._last_ticks = -1

    def add(self, picture: np.ndarray, time_s: float) -> None:
        """Take the next picture, (H, W, 3) uint8 BGR, shown from `time_s` on.

        Odd sizes are padded to even by repeating the edge.
        """
        if self._container is None:
            self._open(picture.shape[1], picture.shape[0])
        frame = self._converter.convert(np.ascontiguousarray(picture[:, :, ::-1]))
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
        self._converter = YuvConverter(width, height, "yuv420p", BT709)
        right, below = self._converter.padded
        self._stream.width, self._stream.height = width + right, height + below
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_S)
        state_bt709(context)

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
