"""`matte adapt CLIP... --model CHECKPOINT --out ADAPTED.pt`: adaptation to unlabelled clips."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from training.commands.common import fail, parse_count
from training.data.pairs import DataError
from training.evaluation.results import format_table
from training.loop.adaptation import (
    AdaptError,
    Judgement,
    Plan,
    adapt,
    freeze_copy,
    judge,
    read_clip,
    split_clips,
)
from training.loop.state import save_atomically
from training.network.checkpoint import CheckpointError, load_model
from training.network.modnet import MODNet


def format_report(before: Sequence[Judgement], after: Sequence[Judgement]) -> str:
    """Return a Markdown table: the footage learnt from, then the footage kept back."""
    rows = []
    for place, old, new in zip(("learnt from", "kept back"), before, after, strict=True):
        for name, was, now in zip(Judgement._fields, old, new, strict=True):
            rows.append([place, name, f"{was:.4f}", f"{now:.4f}", f"{now - was:+.4f}"])
    return format_table(["frames", "measure", "before", "after", "change"], rows, left=2)


def run(arguments: argparse.Namespace) -> None:
    """Read, adapt, judge, save; raises AdaptError, CheckpointError, DataError or OSError."""
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    model = load_model(arguments.model)
    if not isinstance(model, MODNet):
        raise AdaptError(f"{arguments.model}: has no detail branch, which SOC needs")
    if model.architecture["in_channels"] != 3:
        raise AdaptError(f"{arguments.model}: needs a trimap, and unlabelled clips have none")
    size = arguments.ref_size, arguments.every, arguments.max_frames
    clips = [read_clip(path, *size) for path in arguments.clips]
    held_out = read_clip(arguments.held_out, *size) if arguments.held_out else None
    clips, held_out = split_clips(clips, held_out)
    frames = [frame for clip in clips for frame in clip]
    original = freeze_copy(model)
    places = clips[0], held_out
    with Progress(console=Console(stderr=True)) as progress:
        before = [judge(model.eval(), original, place) for place in places]
        plan = Plan(arguments.epochs, arguments.lr, arguments.seed)
        adapt(model, frames, plan, progress)
        after = [judge(model, original, place) for place in places]
    save_atomically(arguments.out, model, adapted_from=str(arguments.model.name))
    print(format_report(before, after))
    if arguments.json:
        rows = {
            f"{place}_{when}": judgement._asdict()
            for when, judgements in (("before", before), ("after", after))
            for place, judgement in zip(("learnt", "kept"), judgements, strict=True)
        }
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="matte adapt", description="Adapt a network to your own clips, without labels (SOC)."
    )
    add = parser.add_argument
    add("clips", type=Path, nargs="+", metavar="CLIP", help="footage to learn from")
    add("--model", type=Path, required=True, help="checkpoint to start from")
    add("--out", type=Path, required=True, help="checkpoint to write (.pt)")
    add("--held-out", type=Path, metavar="CLIP", help="clip to judge on (default: the last one)")
    add("--epochs", type=parse_count, default=Plan.epochs, help="default: %(default)s")
    add("--lr", type=float, default=Plan.lr, help="default: %(default)s")
    add("--ref-size", type=parse_count, default=512, help="shorter side, pixels (%(default)s)")
    add("--every", type=parse_count, default=1, help="take each n-th frame (%(default)s)")
    add("--max-frames", type=parse_count, default=500, help="of a clip (%(default)s)")
    add("--threads", type=parse_count, default=0, help="default: one per core")
    add("--seed", type=int, default=Plan.seed, help="of the order of frames (%(default)s)")
    add("--json", type=Path, help="write the measures")
    arguments = parser.parse_args(argv)
    try:
        run(arguments)
    except (AdaptError, CheckpointError, DataError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted, nothing written", code=130)
    return 0


if __name__ == "__main__":
    sys.exit(main())
