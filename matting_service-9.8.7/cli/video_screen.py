"""What `matte video` shows on the terminal: progress, and the report as a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from service.clips.matte import ProgressCallbacks
from service.clips.run import TOLD

SHOWN_MARKS = 5


class FrameRateColumn(ProgressColumn):
    """Frames a second, lately."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} fps")


@contextmanager
def show_progress() -> Iterator[ProgressCallbacks]:
    """Show a bar on stderr, if it is a terminal, as the frames come."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        FrameRateColumn(),
        TimeRemainingColumn(),
    )
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task("matting", total=None)
        yield ProgressCallbacks(
            on_open=lambda frames_total: progress.update(task, total=frames_total),
            on_frame=lambda: progress.advance(task),
        )


def summarise(results: list[dict[str, Any]], report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table: a name and a text each."""
    for result in results:
        yield "written", f"{result['path']} ({result['bytes']:,} bytes)"
    size = f"{report['width']} x {report['height']}"
    yield "frames", f"{report['frames']} of {size}, {report['duration_s']:.3f} s"
    for name in TOLD:
        if name in report:
            value = report[name]
            text = ", ".join(value) if isinstance(value, list) else value
            yield name.replace("_", " "), "yes" if value is True else f"{text}"
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
