"""Make docs/flicker.png: flicker of a clip frame by frame, before and after one-frame delay.

python docs/make_flicker.py

The clip is a slow pan over a free portrait of scikit-image, an astronaut (NASA). Every twelfth
frame is damaged, each time in another way, as by lost packets or a shaken hand; what the
network makes of it is its own. Needs matplotlib and scikit-image (`make setup`).
"""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure, FigureBase
from skimage import data

from service.frames.measures import measure_change
from service.frames.segment import Segment, process_segment
from service.frames.smoothing import OFD_THRESHOLD
from service.inference.batcher import Matte
from service.inference.engine import OnnxEngine, State
from service.inference.preprocessing import prepare_input
from service.media.video.types import VideoFrame
from service.settings import Settings

OUT = Path(__file__).parent / "flicker.png"
FRAMES, FPS, SIZE, REF_SIZE = 96, 30, (640, 416), 256
RAW, SMOOTHED, MARK, INK = "#d1495b", "#00798c", "#edae49", "#33373d"


def lose_packets(image: np.ndarray) -> np.ndarray:
    damaged = image.copy()
    damaged[190:] = 128
    return damaged


def overexpose(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 1.9, 0, 255).astype(np.uint8)


def shake(image: np.ndarray) -> np.ndarray:
    return cv2.blur(image, (151, 5))


def add_noise(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 90, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "packets lost": lose_packets,
    "overexposed": overexpose,
    "shaken": shake,
    "noise": add_noise,
}


def make_frame(index: int) -> VideoFrame:
    portrait = data.astronaut()
    zoom = 1.35 + 0.001 * index
    matrix = np.array([[zoom, 0, -20 - 0.4 * index], [0, zoom, -30]])
    image = cv2.warpAffine(portrait, matrix, SIZE, flags=cv2.INTER_LINEAR)
    if name := get_damage(index):
        image = DAMAGES[name](image)
    return VideoFrame(index, 1, image)


def get_damage(index: int) -> str | None:
    """Return how a frame is damaged, None for most."""
    if index % 12 != 8:
        return None
    return list(DAMAGES)[index // 12 % len(DAMAGES)]


def matte_clip(frames: list[VideoFrame]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the network's mattes and the smoothed ones, (h, w) float32 each."""
    engine = OnnxEngine(Settings(device="cpu"))
    raw: list[np.ndarray] = []
    smoothed: list[np.ndarray] = []

    class Recorder:
        ref_size = REF_SIZE
        ahead = 1

        def prepare(
            self, image: np.ndarray, pixel_shape: float = 1
        ) -> tuple[np.ndarray, np.ndarray]:
            return prepare_input(image, engine.info, REF_SIZE, 1.5)

        def infer(self, tensor: np.ndarray, state: State) -> Future[Matte]:
            raw.append(engine.run(tensor[np.newaxis])[0])
            future: Future[Matte] = Future()
            future.set_result(Matte(raw[-1]))
            return future

    segment = Segment(Recorder(), OFD_THRESHOLD)
    process_segment(frames, segment, lambda item: smoothed.append(item.alpha), threading.Event())
    return raw, smoothed


def draw_pictures(figure: FigureBase, rows: dict[str, list[np.ndarray]]) -> None:
    """Draw the first frame of each kind of damage as a column."""
    shown = [index for index in range(FRAMES) if get_damage(index)][: len(DAMAGES)]
    grid = figure.subplots(len(rows), len(shown))
    for line, (title, pictures) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(title.replace(" ", "\n"), fontsize=10, color=INK)
        for axes, index in zip(line, shown, strict=True):
            axes.imshow(pictures[index], cmap="gray", vmin=0, vmax=1, extent=(0, *SIZE, 0))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for axes, index in zip(grid[0], shown, strict=True):
        axes.set_title(f"{get_damage(index)}, {index / FPS:.2f} s", fontsize=10, color=INK)


def draw_lines(figure: FigureBase, lines: dict[str, tuple[list[np.ndarray], str]]) -> None:
    """Draw how much each matte differs from the one before."""
    axes = figure.subplots()
    for index in filter(get_damage, range(FRAMES)):
        label = "one damaged frame" if index == 8 else None
        span = (index - 0.5) / FPS, (index + 1.5) / FPS
        axes.axvspan(*span, color=MARK, alpha=0.35, linewidth=0, label=label)
    for title, (alphas, colour) in lines.items():
        changes = [measure_change(before, after) for before, after in pairwise(alphas)]
        label = f"{title}: {np.mean(changes):.1f} on average"
        axes.plot(np.arange(1, FRAMES) / FPS, changes, color=colour, label=label, linewidth=2)
    axes.set_xlim(0, (FRAMES - 1) / FPS)
    axes.set_ylim(0)
    axes.set_xlabel("time, s", color=INK)
    axes.set_ylabel("flicker", color=INK)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.2), frameon=False)


def main() -> int:
    frames = [make_frame(index) for index in range(FRAMES)]
    raw, smoothed = matte_clip(frames)
    figure = Figure(figsize=(11, 7.4), layout="constrained", facecolor="white")
    above, below = figure.subfigures(2, 1, height_ratios=[2.2, 1])
    before, after = "the network's matte", "after one-frame delay"
    draw_pictures(above, {"frame": [frame.image for frame in frames], before: raw, after: smoothed})
    draw_lines(below, {before: (raw, RAW), after: (smoothed, SMOOTHED)})
    figure.savefig(OUT, dpi=100)
    return 0


if __name__ == "__main__":
    sys.exit(main())
