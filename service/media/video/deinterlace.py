"""Interlaced frames: to progressive ones, or found where nothing says so; in the decoder child."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

# Of frames that come without one: their times are kept as numbers.
_ANY_CLOCK = Fraction(1, 1000)
# Frames without combs after which a clip counts as progressive.
_MANY_FRAMES = 250
# So many combed frames, and so many for one that is not, are no accident: in films shown as video
# (3:2 pulldown) two of five frames are.
_LEAST_COMBED = 5
_LEAST_SHARE = 1 / 4
# How much nearer a field is to one neighbour in time than to the other; idet's own 1.04 also finds
# fields in coarse pictures of a small camera.
_IDET = "intl_thres=1.2"


class Deinterlacer:
    """Sends frames through FFmpeg's bwdif from the first interlaced one on.

    Frames that say they are progressive stay as they are unless it `takes_all`; each frame comes
    out with its own time, one frame later. `parity`: tff or bff, which field comes first, or auto:
    as the frames say.
    """

    def __init__(self, parity: str = "auto", *, takes_all: bool = False) -> None:
        self.frames = 0  # interlaced ones
        which = "all" if takes_all else "interlaced"
        self._takes_all = takes_all
        self._text = f"mode=send_frame:parity={parity}:deint={which}"
        self._graph: Graph | None = None
        self._form: tuple[Any, ...] | None = None
        self._time_base = Fraction(1)

    def push(self, frame: Any) -> Iterator[Any]:
        """Take the next frame of the library; yield those that are ready."""
        is_interlaced = self._takes_all or bool(frame.interlaced_frame)
        self.frames += is_interlaced
        form = _describe_form(frame)
        if self._graph is not None and form != self._form:
            yield from self.flush()
        if self._graph is None:
            if not is_interlaced:
                yield frame
                return
            self._graph, self._form = make_graph(frame, "bwdif", self._text), form
            self._time_base = frame.time_base or _ANY_CLOCK
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
        for frame in pull(self._graph):
            # The filter counts in half ticks.
            if frame.pts is not None:
                frame.pts = round(frame.pts * frame.time_base / self._time_base)
            frame.duration = round(frame.duration * frame.time_base / self._time_base)
            frame.time_base = self._time_base
            yield frame


class CombDetector:
    """Finds frames that hold two moments and do not say so, by FFmpeg's idet.

    It looks at all frames until it has seen enough without combs.
    """

    def __init__(self) -> None:
        self._combed = {"tff": 0, "bff": 0}  # by the field that comes first
        self._progressive = 0
        self._graph: Graph | None = None
        self._form: tuple[Any, ...] | None = None

    def push(self, frame: Any) -> None:
        """Look at a frame, which stays as it is."""
        if not any(self._combed.values()) and self._progressive >= _MANY_FRAMES:
            self._graph = None
            return
        form = _describe_form(frame)
        if form != self._form:
            self._graph, self._form = make_graph(frame, "idet", _IDET), form
        assert self._graph is not None
        self._graph.push(frame)
        for judged in pull(self._graph):
            word = judged.metadata.get("lavfi.idet.single.current_frame")
            if word in self._combed:
                self._combed[word] += 1
            self._progressive += word == "progressive"

    def count(self) -> int:
        """Return how many frames are combed; 0 where that may be chance."""
        fewer, combed = sorted(self._combed.values())
        others = max(self._progressive * _LEAST_SHARE, fewer / _LEAST_SHARE)
        return combed if combed >= max(_LEAST_COMBED, others) else 0


def _describe_form(frame: Any) -> tuple[Any, ...]:
    return frame.width, frame.height, frame.format.name


def make_graph(frame: Any, name: str, text: str) -> Graph:
    """Return a graph of one filter for frames like this one."""
    graph = Graph()
    graph.threads = 1  # else one for each core, and each reserves address space
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or _ANY_CLOCK,
    )
    graph.link_nodes(source, graph.add(name, text), graph.add("buffersink")).configure()
    return graph


def pull(graph: Graph) -> Iterator[Any]:
    """Yield what a graph has ready."""
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, EOFError):
            return
