"""What a run leaves for people: log.csv, curves, a sheet of mattes, the line on the screen."""

import csv
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.evaluation.sheet import draw_sheet
from training.loop.validation import Prediction, Scores

LOSSES = ("semantic", "detail", "matte")
COSTS = ("photos_per_s", "core_ms", "sample_ms")  # core_ms: of all processes, a photo; samples too
SCORE_COLUMNS = tuple(f"val_{name}" for name in Scores._fields)
# `data_set` is empty in the scores of all photos together.
COLUMNS = ("stage", "step", "photos", "lr", *LOSSES, *COSTS, *SCORE_COLUMNS, "data_set")
SHEET_COLOUR = (0, 177, 64)  # behind the person in the last column


class Log:
    """log.csv: a row of losses every few steps, a row of scores after each epoch."""

    def __init__(self, path: Path, photos_done: int) -> None:
        """Go on after `photos_done`: later rows belong to steps that will be taken again."""
        self.path = path
        rows = [row for row in read_log(path) if int(row["photos"]) <= photos_done]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def write(self, **row: object) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the rows of a log.csv; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_curves(log: Path, out: Path) -> None:
    """Draw losses and scores over the photos seen."""
    from matplotlib.figure import Figure

    rows = [row for row in read_log(log) if not row["data_set"]]
    figure = Figure(figsize=(11, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for axes, names in ((losses, LOSSES), (scores, SCORE_COLUMNS[:2])):
        for name in names:
            points = [(int(row["photos"]), float(row[name])) for row in rows if row[name]]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." * (axes is scores))
                axes.set_yscale("log")
        axes.set_xlabel("photos")
        axes.grid(alpha=0.3)
        axes.legend()
    iou = [(int(row["photos"]), float(row["val_iou"])) for row in rows if row["val_iou"]]
    if iou:
        right = scores.twinx()
        right.plot(*zip(*iou, strict=True), color="grey", linestyle="--")
        right.set_ylabel("val_iou (dashed)")
    figure.savefig(out, dpi=90)


def draw_predictions(predictions: list[Prediction], out: Path) -> None:
    """Draw photo, true alpha, matte and the person on one colour, a row per photo."""
    rows = []
    for id, image, alpha, matte in predictions:
        a = matte[:, :, None]
        composite = np.rint(image * a + np.array(SHEET_COLOUR) * (1 - a)).astype(np.uint8)
        rows.append((id, (image, alpha, matte, composite)))
    draw_sheet(rows).save(out)


class Meter:
    """Mean losses, photos per second and cost of a photo since the last `take`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.photos, self.cpu_ms, self.sample_ms = 0, 0.0, 0.0
        self.start = time.perf_counter()

    def add(self, losses: dict[str, float], photos: int, cpu_ms: float, sample_ms: float) -> None:
        self.rows.append(losses)
        self.photos += photos
        self.cpu_ms += cpu_ms
        self.sample_ms += sample_ms

    def take(self) -> dict[str, float]:
        mean = {name: float(np.mean([row[name] for row in self.rows])) for name in self.rows[0]}
        rate = self.photos / (time.perf_counter() - self.start)
        costs = (rate, self.cpu_ms / self.photos, self.sample_ms / self.photos)
        self.__init__()
        return mean | dict(zip(COSTS, costs, strict=True))


class CpuClock:
    """The processor time of this process, all its threads together."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def take(self) -> float:
        """Return the milliseconds since the last `take`."""
        last, self.last = self.last, time.process_time()
        return (self.last - last) * 1e3


def describe_step(
    name: str, steps: tuple[int, int], photos_left: int, row: dict[str, float]
) -> str:
    """Return a line of losses, speed and time left; `steps` are those done and all."""
    losses = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in COSTS)
    rate, core_ms, sample_ms = (row[name] for name in COSTS)
    speed = f"{rate:.1f} photos/s  {core_ms:.0f} core-ms a photo, {sample_ms:.0f} for the sample"
    return (
        f"{name} {steps[0]}/{steps[1]}  {losses}  {speed}  {photos_left / rate / 60:.0f} min left"
    )


class Screen:
    """A progress bar with photos/s and time left; plain lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} photos  {task.fields[text]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = None

    def __enter__(self) -> "Screen":
        self.progress.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.progress.stop()

    def begin(self, name: str, total: int, done: int) -> None:
        """Show the stage `name` of `total` photos."""
        if self.task is not None:
            self.progress.remove_task(self.task)
        self.task = self.progress.add_task(name, total=total, completed=done, text="")

    def advance(self, done: int) -> None:
        self.progress.update(self.task, completed=done)

    def show(self, text: str) -> None:
        """Put the latest numbers beside the bar, or print them."""
        self.progress.update(self.task, text=text)
        if not self.console.is_terminal:
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
