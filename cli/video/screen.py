"""What `matte video` shows on the terminal: progress, and the report as a table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.screen import open_progress
from service.clips.matte import ProgressCallbacks
from service.clips.run import TOLD
from service.media.video.repairs import format_told

SHOWN_MARKS = 5


class FrameRateColumn(ProgressColumn):
    """Frames a second, lately."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} fps")


def make_columns() -> Iterator[ProgressColumn]:
    """Yield the parts of the bar: frames done, of how many, how fast, for how long still."""
    yield TextColumn("{task.description}")
    yield BarColumn()
    yield MofNCompleteColumn()
    yield FrameRateColumn()
    yield TimeRemainingColumn()


@contextmanager
def show_progress() -> Iterator[ProgressCallbacks]:
    """Show how far a clip is in this process, as the frames come."""
    with open_progress(*make_columns()) as progress:
        task = progress.add_task("matting", total=None)
        yield ProgressCallbacks(
            on_open=lambda frames_total: progress.update(task, total=frames_total),
            on_frame=lambda: progress.advance(task),
        )


@contextmanager
def show_remote_progress() -> Iterator[Callable[[Any], None]]:
    """Show how far a clip is on a service: frames, while it is matted."""
    with open_progress(*make_columns()) as progress:
        task = progress.add_task("sending", total=None)

        def update(told: Any) -> None:
            if told.stage == "matte":
                progress.update(task, description="matting", completed=told.done, total=told.total)
            else:
                progress.update(task, description=f"{told.stage}ing")

        yield update


def summarise(results: list[dict[str, Any]], report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table: a name and a text each."""
    for result in results:
        yield "written", f"{result['path']} ({result['bytes']:,} bytes)"
    size = f"{report['width']} x {report['height']}"
    yield "frames", f"{report['frames']} of {size}, {report['duration_s']:.3f} s"
    for name in TOLD:
        if name in report:
            yield name.replace("_", " "), format_told(report[name])
    yield "network", f"{report['model']}, {report['provider']}"
    yield "person", f"{report['mean_coverage']:.1%} of the picture"
    share = report["pixels_smoothed"] / report["pixels"]
    flicker = f"{report['flicker_raw']:.2f}, {report['flicker_smoothed']:.2f} after smoothing"
    yield "flicker", f"{flicker} of {share:.2%} of the pixels"
    yield "scene cuts", list_marks(report["scene_cuts_total"], report["scene_cuts"])
    yield "flagged for review", list_marks(report["suspicious_total"], report["suspicious"])


def list_marks(total: int, marks: list[dict[str, Any]]) -> str:
    """Return how many frames there are, and the first of them."""
    shown = marks[:SHOWN_MARKS]
    texts = [f"{mark['time_s']:.3f} s {mark.get('reason', '')}".strip() for mark in shown]
    dots = ["..."] if total > len(shown) else []
    return f"{total}: {', '.join(texts + dots)}" if total else "none"
