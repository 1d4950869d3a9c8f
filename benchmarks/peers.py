"""`make bench-peers PHOTOS=FOLDER`: this service beside u2netp and RVM, from file to file.

FOLDER is in any layout that training reads; photos of its `val` split are matted one after another,
each by all in turn: a JPEG in, an alpha PNG out. Then a clip of 720p, over green. Each runs as its
users run it: this service over HTTP, u2netp by rembg, RVM in a plain loop, the latter two in
environments of their own (`benchmarks/peer_worker.py`). Processor time is that of the operating
system's books, of all processes of each. `--write` puts the figures and the chart into docs/.
Prints a Markdown table for RESULTS.md.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from rich.progress import track

from benchmarks.serving import describe_run, find_free_port, wait_until_ready
from benchmarks.video import make_clip
from service.settings import DEFAULT_MODEL
from training.data.pairs import Pair, find_pairs
from training.data.photos import read_image
from training.evaluation.metrics import iou, mad, mse
from training.evaluation.results import format_table

OUT = Path("docs/peers.png")
WORKER = Path(__file__).with_name("peer_worker.py")
METRICS = {"MAD": mad, "MSE": mse, "IoU": iou}
SIZE = 1280, 720
GREEN = "#00b140"


class Contender:
    """Someone who mattes files, as a process with its children."""

    def __init__(self, name: str, command: list[str], kinds: tuple[str, ...], **environ: str):
        self.name, self.kinds = name, kinds
        self._pipe = subprocess.PIPE
        self.process = psutil.Popen(
            command, stdin=self._pipe, stdout=self._pipe, text=True, env=os.environ | environ
        )
        self._start_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait()

    def matte(self, kind: str, source: Path, out: Path) -> None:
        """Matte one file, `kind` is photo or clip, and wait until the result is there."""
        self.tell({kind: str(source), "out": str(out)})

    def tell(self, job: dict[str, str]) -> None:
        print(json.dumps(job), file=self.process.stdin, flush=True)
        if self.process.stdout.readline() != "done\n":
            raise SystemExit(f"{self.name} failed")

    def read_usage(self) -> tuple[float, float]:
        """Return core-s and MiB (unique set size), of the process and its children."""
        family = [self.process, *self.process.children(recursive=True)]
        core_s = sum(sum(one.cpu_times()[:2]) for one in family)
        return core_s, sum(one.memory_full_info().uss for one in family) / 2**20


class Peer(Contender):
    """A network of others in its own environment."""

    def __init__(self, peer: str, python: Path, kinds: tuple[str, ...], name: str) -> None:
        super().__init__(name, [str(python), str(WORKER), peer], kinds)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} does not start; run make bench-peers")


class Ours(Contender):
    """This service with one model."""

    def __init__(self, model: Path, folder: Path, name: str) -> None:
        self._port = find_free_port()
        command = [sys.executable, "-m", "service", f"--port={self._port}"]
        environ = {"MATTING_MODEL_PATH": str(model), "MATTING_DATA_DIR": str(folder)}
        kinds = ("photo", "clip")
        super().__init__(name, command, kinds, MATTING_LOG_LEVEL="error", **environ)
        wait_until_ready(self._port, self.process)

    def matte(self, kind: str, source: Path, out: Path) -> None:
        paths = {
            "photo": "/v1/image",
            "clip": f"/v1/video?background={GREEN.replace('#', '%23')}",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        headers = {"Content-Type": "application/octet-stream"}
        connection.request("POST", paths[kind], source.read_bytes(), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{self.name}: {answer.status} {answer.read()!r}")
        out.write_bytes(answer.read())
        connection.close()


@dataclass
class Figures:
    """What one contender took, and how far its mattes are from the labels."""

    name: str
    ms: list[float] = field(default_factory=list)
    core_ms: float = 0.0
    errors: dict[str, list[float]] = field(default_factory=dict)
    mib: float = 0.0
    clip_fps: list[float] = field(default_factory=list)
    clip_core_ms: float | None = None


def measure_photos(one: Contender, figures: Figures, pair: Pair, out: Path) -> None:
    """Matte a photo and add what it took."""
    before_s, _ = one.read_usage()
    start_s = time.perf_counter()
    one.matte("photo", pair.photo, out)
    figures.ms.append((time.perf_counter() - start_s) * 1000)
    after_s, figures.mib = one.read_usage()
    figures.core_ms += (after_s - before_s) * 1000
    found, label = (np.float32(read_image(path, "L")) / 255 for path in (out, pair.alpha))
    for name, metric in METRICS.items():
        figures.errors.setdefault(name, []).append(float(metric(found, label)))


def measure_clip(one: Contender, figures: Figures, clip: Path, frames: int, out: Path) -> None:
    """Matte a clip; the best of the turns counts."""
    before_s, _ = one.read_usage()
    start_s = time.perf_counter()
    one.matte("clip", clip, out)
    figures.clip_fps.append(frames / (time.perf_counter() - start_s))
    core_ms = (one.read_usage()[0] - before_s) * 1000 / frames
    figures.clip_core_ms = min(core_ms, figures.clip_core_ms or core_ms)


def open_all(stack: ExitStack, folder: Path, environments: Path) -> list[Contender]:
    """Start everybody."""
    models = {"default (modnet-fast)": DEFAULT_MODEL}
    models["modnet"] = DEFAULT_MODEL.with_name("modnet.onnx")
    opened: list[Contender] = []
    for name, model in models.items():
        (own := folder / name).mkdir()
        opened.append(stack.enter_context(Ours(model, own, f"ours, {name}")))
    for peer, kinds, name in (
        ("rvm", ("photo", "clip"), "RVM mobilenetv3, plain loop"),
        ("u2netp", ("photo",), "u2netp, rembg"),
    ):
        python = environments / peer / "bin" / "python"
        opened.append(stack.enter_context(Peer(peer, python, kinds, name)))
    return opened


def run(pairs: list[Pair], frames: int, rounds: int, environments: Path) -> list[Figures]:
    """Measure all by turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = open_all(stack, folder, environments)
        found = [Figures(one.name) for one in contenders]
        out = folder / "alpha.png"
        for one in contenders:  # the first run of a size takes longer
            one.matte("photo", pairs[0].photo, out)
        for pair in track(pairs, description="photos"):
            for one, figures in zip(contenders, found, strict=True):
                measure_photos(one, figures, pair, out)
        clip = make_clip(folder / "clip.mp4", frames, SIZE)
        for _ in range(rounds):
            for one, figures in zip(contenders, found, strict=True):
                if "clip" in one.kinds:
                    measure_clip(one, figures, clip, frames, folder / "result.mp4")
    return found


def list_cells(figures: Figures, photos: int) -> list[str]:
    """Return a row of the table."""
    p50, p95 = np.quantile(figures.ms, (0.5, 0.95))
    errors = [f"{np.mean(values):.4f}" for values in figures.errors.values()]
    clip = ["", ""]
    if figures.clip_core_ms is not None:
        clip = [f"{max(figures.clip_fps):.1f}", f"{figures.clip_core_ms:.0f}"]
    cost = [f"{p50:.0f}", f"{p95:.0f}", f"{figures.core_ms / photos:.0f}", f"{figures.mib:.0f}"]
    return [figures.name, *cost, *errors, *clip]


def draw(found: list[Figures], out: Path) -> None:
    """Draw error against processor time, and what a frame of a clip takes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, one in enumerate(found):
        colour = f"C{index}"
        cost, error = one.core_ms / len(one.ms), float(np.mean(one.errors["MAD"]))
        left.plot(cost, error, "o", color=colour, markersize=9, label=one.name)
        if one.clip_core_ms is not None:
            bar = right.barh(one.name, one.clip_core_ms, color=colour)
            right.bar_label(bar, fmt="%.0f", padding=4)
    left.set(title="Photos: error", xlabel="processor ms a photo", ylabel="MAD")
    left.margins(0.15)
    left.set(xlim=(0, None), ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    right.set(title="A 720p clip over green", xlabel="processor ms a frame", yticks=[])
    right.invert_yaxis()
    right.margins(x=0.12)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="?", metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=60, help="photos, spread over the split")
    parser.add_argument("--frames", type=int, default=60, help="of the clip")
    parser.add_argument("--rounds", type=int, default=2, help="turns with the clip")
    parser.add_argument("--environments", type=Path, default=Path(sys.prefix) / "peers")
    parser.add_argument("--write", action="store_true", help="docs/peers.json and docs/peers.png")
    parser.add_argument("--redraw", action="store_true", help="draw the figures that are there")
    options = parser.parse_args()
    if options.redraw:
        draw([Figures(**one) for one in json.loads(OUT.with_suffix(".json").read_text())], OUT)
        return
    if options.photos is None:
        parser.error("--photos FOLDER: photos with alpha, in any layout that training reads")
    pairs = [pair for pair in find_pairs(options.photos) if pair.split == "val"]
    pairs = pairs[:: max(1, len(pairs) // options.limit)][: options.limit]
    found = run(pairs, options.frames, options.rounds, options.environments)
    titles = ["", "ms a photo, p50", "p95", "core-ms a photo", "MiB", *METRICS]
    titles += ["clip, frames/s", "core-ms a frame"]
    print(f"### {describe_run('make bench-peers')}, {len(pairs)} photos\n")
    print(format_table(titles, [list_cells(figures, len(pairs)) for figures in found]))
    if options.write:
        OUT.with_suffix(".json").write_text(
            json.dumps([asdict(figures) for figures in found], indent=1) + "\n"
        )
        draw(found, OUT)


if __name__ == "__main__":
    main()
