"""Interlaced frames to progressive ones, one for each frame; only in the decoder child."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph


class Deinterlacer:
    """Sends frames through FFmpeg's bwdif from the first interlaced one on.

    Frames that say they are progressive stay as they are; each frame comes out with its own time,
    one frame later.
    """

    def __init__(self) -> None:
        self.frames = 0  # interlaced ones
        self._graph: Graph | None = None
        self._form: tuple[Any, ...] | None = None
        self._time_base = Fraction(1)

    def push(self, frame: Any) -> Iterator[Any]:
        """Take the next frame of the library; yield those that are ready."""
        self.frames += bool(frame.interlaced_frame)
        form = frame.width, frame.height, frame.format.name
        if self._graph is not None and form != self._form:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph, self._form = _make_graph(frame), form
            self._time_base = frame.time_base
        self._graph.push(frame)
        yield from self._pull()

    def flush(self) -> Iterator[Any]:
        """Yield what is held back."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph = None

    def _pull(self) -> Iterator[Any]:
        assert self._graph is not None
        while True:
            try:
                frame: Any = self._graph.pull()
            except (av.BlockingIOError, EOFError):
                return
            # The filter counts in half ticks.
            frame.pts = round(frame.pts * frame.time_base / self._time_base)
            frame.duration = round(frame.duration * frame.time_base / self._time_base)
            frame.time_base = self._time_base
            yield frame


def _make_graph(frame: Any) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base,
    )
    filter = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(filter)
    filter.link_to(sink)
    graph.configure()
    return graph
