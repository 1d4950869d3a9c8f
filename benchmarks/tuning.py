"""`python -m benchmarks.tuning`: what options save of a clip's processor time, for docs/tuning.md.

The clip, 720p, is matted with each of the options by turns; a ratio is the processor time of this
process over that of the default in the same round, the median of the rounds. Decoding is not in it:
a child does that.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.serving import describe_run
from benchmarks.video import SIZES, make_clip, start
from service.clips.matte import ProgressCallbacks
from service.clips.options import VideoOptions
from service.clips.plan import make_plan
from service.clips.run import run_clip
from service.clips.slots import VideoSlots
from service.runtime import Runtime
from training.evaluation.results import format_table

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "outputs=alpha": {"outputs": "alpha"},
    "refine=off": {"refine": "off"},
    "foreground=off": {"foreground": "off"},
    "foreground=off refine=off": {"foreground": "off", "refine": "off"},
    "preset=ultrafast": {"preset": "ultrafast"},
    "max_fps=15": {"max_fps": 15},
    "ref_size=192": {"ref_size": 192},
    "ref_size=128": {"ref_size": 128},
    "model=modnet": {"model": "modnet"},
    "model=modnet ref_size=128": {"model": "modnet", "ref_size": 128},
}


async def time_clip(runtime: Runtime, path: Path, given: dict[str, Any]) -> float:
    """Return the processor seconds of this process for a clip with these options."""
    options = VideoOptions(**given)
    model = runtime.models.choose(options.model)
    plan, slots = make_plan(options, None), VideoSlots(1, runtime.metrics)
    with path.open("rb") as file, tempfile.TemporaryDirectory() as folder:
        start_s = time.process_time()
        await run_clip(
            runtime, slots, model, file, plan, Path(folder), ProgressCallbacks(), max_s=600
        )
        return time.process_time() - start_s


async def measure(frames: int, rounds: int) -> list[list[str]]:
    ratios: dict[str, list[float]] = {name: [] for name in OPTIONS}
    with tempfile.TemporaryDirectory() as folder:
        path = make_clip(Path(folder) / "clip.mp4", frames, SIZES["720p"])
        async with start(None) as runtime:
            for given in ({}, {"model": "modnet"}):  # loads and warms
                await time_clip(runtime, path, given)
            for _ in range(rounds):
                times = {name: await time_clip(runtime, path, o) for name, o in OPTIONS.items()}
                for name, seconds in times.items():
                    ratios[name].append(seconds / times["default"])
    return [[name, f"{statistics.median(found):.2f}"] for name, found in ratios.items()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--frames", type=int, default=24, help="of the clip")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.frames, options.rounds))
    print(f"### {describe_run('python -m benchmarks.tuning')}\n")
    print(format_table(["options", "processor time over the default's"], rows))


if __name__ == "__main__":
    main()
