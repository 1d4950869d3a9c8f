"""`matte adapt CLIP... --model CHECKPOINT --out ADAPTED.pt`: adaptation to unlabelled clips."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from training.commands.common import EXIT_INTERRUPTED, fail
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


@dataclass(frozen=True)
class AdaptOptions:
    """What the command line says, field for field; `threads` 0: one per core."""

    clips: list[Path]
    model: Path
    out: Path
    held_out: Path | None
    epochs: int
    lr: float
    ref_size: int
    every: int
    max_frames: int
    threads: int
    seed: int
    json: Path | None


def format_report(before: Sequence[Judgement], after: Sequence[Judgement]) -> str:
    """Return a Markdown table: the footage learnt from, then the footage kept back."""
    rows = []
    for place, old, new in zip(("learnt from", "kept back"), before, after, strict=True):
        for name, was, now in zip(Judgement._fields, old, new, strict=True):
            rows.append([place, name, f"{was:.4f}", f"{now:.4f}", f"{now - was:+.4f}"])
    return format_table(["frames", "measure", "before", "after", "change"], rows, left=2)


def adapt_checkpoint(options: AdaptOptions) -> None:
    """Read, adapt, judge, save; raises AdaptError, CheckpointError, DataError or OSError."""
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    model = load_model(options.model)
    if not isinstance(model, MODNet):
        raise AdaptError(f"{options.model}: has no detail branch, which SOC needs")
    if model.architecture["in_channels"] != 3:
        raise AdaptError(f"{options.model}: needs a trimap, and unlabelled clips have none")
    size = options.ref_size, options.every, options.max_frames
    clips = [read_clip(path, *size) for path in options.clips]
    held_out = read_clip(options.held_out, *size) if options.held_out else None
    clips, held_out = split_clips(clips, held_out)
    frames = [frame for clip in clips for frame in clip]
    original = freeze_copy(model)
    places = clips[0], held_out
    with Progress(console=Console(stderr=True)) as progress:
        before = [judge(model.eval(), original, place) for place in places]
        plan = Plan(options.epochs, options.lr, options.seed)
        adapt(model, frames, plan, progress)
        after = [judge(model, original, place) for place in places]
    save_atomically(options.out, model, adapted_from=str(options.model.name))
    print(format_report(before, after))
    if options.json:
        rows = {
            f"{place}_{when}": judgement._asdict()
            for when, judgements in (("before", before), ("after", after))
            for place, judgement in zip(("learnt", "kept"), judgements, strict=True)
        }
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def run(options: AdaptOptions) -> None:
    """Run the command; a failure is one line on stderr."""
    try:
        adapt_checkpoint(options)
    except (AdaptError, CheckpointError, DataError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or options.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("interrupted, nothing written", code=EXIT_INTERRUPTED)
