"""`make bench-video`: frames a second of a clip, file to file, against the bare network.

The bare network and each output take turns in one run, so that the machine's noise meets all alike;
the figure to read is the ratio, the median of those of the rounds. On a CPU the network alone keeps
all cores busy, and decoding, refining and encoding take their share of it, the smaller the more the
network has to do: each clip is measured at the model's own `ref_size` and at MODNet's, 512. The
rows `elsewhere` show what is left of a network of the same speed that needs none of these cores.
Prints a Markdown table for RESULTS.md.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.serving import describe_run, make_photo
from service.clips.matte import ProgressCallbacks
from service.clips.options import VideoOptions
from service.clips.plan import make_plan
from service.clips.run import run_clip
from service.clips.slots import VideoSlots
from service.inference.engine import Engine
from service.inference.preprocessing import fit_to_network
from service.metrics import Metrics
from service.runtime import Runtime
from service.settings import load_settings
from training.evaluation.results import format_table

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
OUTPUTS = ("composite", "alpha")
PAPER_REF_SIZE = 512  # Ke et al., "MODNet", section 5
FPS = 30


def make_frame(index: int, size: tuple[int, int]) -> np.ndarray:
    """Return a picture of a slow pan over the portrait, (H, W, 3) uint8 RGB for `size` (W, H)."""
    width, height = size
    photo = make_photo(width + 64)
    x, y = index % 64, (photo.shape[0] - height) // 4
    return np.ascontiguousarray(photo[y : y + height, x : x + width])


def make_clip(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """Write an H.264 MP4 of the pan."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(make_frame(index, size), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def time_bare(engine: Engine, tensor: np.ndarray, frames: int) -> float:
    """Return frames a second of the engine alone, in the batches it likes best."""
    batch = np.stack([tensor] * engine.max_batch_size)
    runs = -(-frames // engine.max_batch_size)
    start_s = time.perf_counter()
    for _ in range(runs):
        engine.run(batch)
    return runs * engine.max_batch_size / (time.perf_counter() - start_s)


async def time_clip(runtime: Runtime, path: Path, output: str, ref_size: int) -> float:
    """Return frames a second of a whole clip: decoded, matted, smoothed, composed, encoded."""
    plan = make_plan(VideoOptions(outputs=output, ref_size=ref_size), None)
    max_s = runtime.settings.video_max_s
    with path.open("rb") as file, tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        slots = VideoSlots(1, runtime.metrics)
        watch = ProgressCallbacks()
        clip = await run_clip(
            runtime, slots, runtime.models.default, file, plan, Path(folder), watch, max_s=max_s
        )
        return clip.report.frames / (time.perf_counter() - start_s)


class ElsewhereEngine:
    """The network as if on a device of its own: as slow as on these cores, and none of their work.

    Its answers are those of one run for each shape.
    """

    def __init__(self, engine: Engine) -> None:
        self.info, self.provider, self.note = engine.info, engine.provider, engine.note
        self.precision, self.max_batch_size = engine.precision, engine.max_batch_size
        self._engine = engine
        self._mattes: dict[tuple[int, ...], np.ndarray] = {}
        self.seconds = 0.0

    def warm_up(self) -> None:
        """There is nothing to warm up."""

    def open_beside(self, lanes: int) -> None:
        """A device runs one batch after another."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        if batch.shape not in self._mattes:
            self._mattes[batch.shape] = self._engine.run(batch)
        time.sleep(self.seconds)
        return self._mattes[batch.shape].copy()


@asynccontextmanager
async def start(engine: Engine | None) -> AsyncIterator[Runtime]:
    """Yield the parts of the service with an engine; None: the network on these cores."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(decoders=1, data_dir=Path(folder))
        runtime = await Runtime.start(settings, Metrics(), engine)
        try:
            yield runtime
        finally:
            await runtime.stop_network()
            await runtime.aclose()


async def measure(frames: int, rounds: int) -> tuple[str, list[list[str]]]:
    """Return the provider, and a row of the table for each clip, size, place and output."""
    rows = []
    async with start(None) as here:
        apart = ElsewhereEngine(here.models.default.engine)
        async with start(apart) as elsewhere:
            with (
                Progress(console=Console(stderr=True)) as progress,
                tempfile.TemporaryDirectory() as folder,
            ):
                ref_sizes = (here.models.default.engine.info.ref_size, PAPER_REF_SIZE)
                task = progress.add_task("measuring", total=len(SIZES) * len(ref_sizes) * rounds)
                for name, size in SIZES.items():
                    path = make_clip(Path(folder) / f"{name}.mp4", frames, size)
                    for ref_size in ref_sizes:
                        turns = Turns(here, elsewhere, path, make_frame(0, size), ref_size)
                        for _ in range(rounds):
                            await turns.take(frames)
                            progress.advance(task)
                        rows += [[name, str(ref_size), *row] for row in turns.describe()]
    return here.models.default.engine.provider, rows


class Turns:
    """Takes the bare network and each output, in both places, by turns on one clip."""

    def __init__(
        self, here: Runtime, elsewhere: Runtime, path: Path, image: np.ndarray, ref_size: int
    ) -> None:
        self._places = {"these cores": here, "elsewhere": elsewhere}
        self._path = path
        self._ref_size = ref_size
        limit = here.settings.network_max_megapixels
        self._tensor = fit_to_network(image, here.models.default.engine.info, ref_size, limit)
        self._speeds: dict[tuple[str, str], list[tuple[float, float]]] = {
            (output, place): [] for place in self._places for output in OUTPUTS
        }
        engine = here.models.default.engine
        time_bare(engine, self._tensor, engine.max_batch_size)  # warm

    async def take(self, frames: int) -> None:
        engine, apart = (runtime.models.default.engine for runtime in self._places.values())
        bare_fps = await asyncio.to_thread(time_bare, engine, self._tensor, frames)
        assert isinstance(apart, ElsewhereEngine)
        apart.seconds = engine.max_batch_size / bare_fps
        for (output, place), speeds in self._speeds.items():
            fps = await time_clip(self._places[place], self._path, output, self._ref_size)
            speeds.append((bare_fps, fps))

    def describe(self) -> list[list[str]]:
        """Return output, place, the medians of both speeds, and the median of their ratio."""
        rows = []
        for (output, place), speeds in self._speeds.items():
            ratio = statistics.median(fps / bare for bare, fps in speeds)
            medians = [statistics.median(column) for column in zip(*speeds, strict=True)]
            rows.append([output, place, *(f"{value:.2f}" for value in (*medians, ratio))])
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-video", description=__doc__)
    parser.add_argument("--frames", type=int, default=48, help="of each clip")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement")
    options = parser.parse_args()
    provider, rows = asyncio.run(measure(options.frames, options.rounds))
    print(f"### {describe_run('make bench-video')}, {provider}\n")
    titles = ["clip", "ref_size", "output", "network on", "bare frames/s", "clip frames/s"]
    print(format_table([*titles, "clip over bare"], rows, left=4))


if __name__ == "__main__":
    main()
