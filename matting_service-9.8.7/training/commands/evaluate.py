"""`matte evaluate MODEL DATA...`: how far the mattes of a network are from the true ones.

Every picture is fed as the service feeds it and its matte enlarged to the picture's own size, where
it is measured; the figures are plain means over the pictures of a folder. The protocol `ppm` is the
one of PPM-100's authors: the same with a shorter side of 512.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from training.commands.common import fail, parse_count
from training.data.pairs import DataError, Pair, find_pairs
from training.evaluation.measure import draw_case, find_clip_pairs, measure_clip, measure_photo
from training.evaluation.predictor import (
    Placement,
    Predictor,
    PredictorError,
    open_predictor,
)
from training.evaluation.results import (
    TITLES,
    Result,
    average_results,
    format_table,
    format_values,
    group_by_folder,
    write_csv,
    write_json,
)
from training.evaluation.sheet import draw_sheet

PPM_REF_SIZE = 512
# Of the paper's own weights, which were never released; PPM-100.
PUBLISHED = {"PPM-100, the paper's figures": {"mse": 0.0044, "mad": 0.0086}}
WORST_CASES = 8


class EvaluationError(ValueError):
    """The command cannot do what was asked; the message is one line."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        evaluate(arguments)
    except (EvaluationError, PredictorError, DataError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.data[0]}: {error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted, nothing written", code=130)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `matte evaluate`."""
    parser = argparse.ArgumentParser(
        prog="matte evaluate", description="Measure a network's mattes against the true ones."
    )
    add = parser.add_argument
    add("model", type=Path, help="checkpoint (.ckpt, .pt, .pth, .npz) or .onnx")
    help = "folders of photos with alpha, in any layout training reads"
    add("data", type=Path, nargs="+", metavar="DATA", help=help)
    add("--split", choices=["train", "val", "all"], default="all", help="default: %(default)s")
    add("--protocol", choices=["plain", "ppm"], default="plain", help="ppm: shorter side 512")
    add("--ref-size", type=parse_count, help="shorter side fed in (default: the file's, or 512)")
    add("--limit", type=parse_count, help="take this many pictures of each folder, evenly spread")
    add("--trimap", action="store_true", help="feed trimaps made from the true alpha (4 channels)")
    add("--clips", action="store_true", help="DATA holds clips in clip/ and matte/: dtSSD, MESSDdt")
    add("--csv", type=Path, help="write a line per picture")
    add("--json", type=Path, help="write the figures, means and per picture")
    add("--sheet", type=Path, help="write a picture (.png) of the worst cases")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default: %(default)s")
    add("--threads", type=parse_count, default=0, help="default: one per core")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure and report; raises EvaluationError, PredictorError, DataError or OSError."""
    check_targets([arguments.csv, arguments.json, arguments.sheet])
    predictor = open_predictor(arguments.model, Placement(arguments.device, arguments.threads))
    check_channels(predictor, arguments.trimap)
    if arguments.clips and (arguments.trimap or arguments.sheet):
        raise EvaluationError("--trimap and --sheet are for photos, not for --clips")
    ref_size = choose_ref_size(arguments, predictor)
    cases = find_cases(arguments)
    measure = measure_clip if arguments.clips else measure_photo
    start = time.monotonic()
    with track(list(cases.values())) as tracked:
        measured = [measure(predictor, case, ref_size) for case in tracked]
    elapsed_s = time.monotonic() - start

    folders: dict[str, list[Result]] = {}
    for case, result in zip(cases.values(), measured, strict=True):
        folders.setdefault(case.data_set, []).append(result)
    for name, group in folders.items():
        if len(folders) > 1:
            print(f"{name}:\n")
        print(format_results(arguments, group, ref_size) + "\n" * (len(folders) > 1))
    print(f"{predictor.runs_on}, {elapsed_s:.0f} s in all")
    results = [replace(result, id=id) for id, result in zip(cases, measured, strict=True)]
    about = {
        "model": arguments.model.name,
        "sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
        "protocol": arguments.protocol,
        "ref_size": ref_size,
        "split": arguments.split,
        "trimap": arguments.trimap,
    }
    if len(folders) > 1:
        about["means"] = {name: average_results(group) for name, group in folders.items()}
    if arguments.csv:
        write_csv(arguments.csv, results)
    if arguments.json:
        write_json(arguments.json, results, about)
    if arguments.sheet:
        worst = sorted(results, key=lambda result: -result.values["mad"])[:WORST_CASES]
        rows = [draw_case(predictor, cases[r.id], r, ref_size) for r in worst]
        draw_sheet(rows).save(arguments.sheet, format="PNG")


def find_cases(arguments: argparse.Namespace) -> dict[str, Pair]:
    """Return the pictures or clips of all folders by id; with several folders it names them."""
    names = [folder.resolve().name for folder in arguments.data]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in arguments.data]
    cases: dict[str, Pair] = {}
    for folder, name in zip(arguments.data, names, strict=True):
        if arguments.clips:
            found = thin_out(find_clip_pairs(folder), arguments.limit)
        else:
            found = select(find_pairs(folder), arguments.split, arguments.limit)
        prefix = f"{name}/" if len(names) > 1 else ""
        cases |= {prefix + case.id: replace(case, data_set=name) for case in found}
    return cases


def choose_ref_size(arguments: argparse.Namespace, predictor: Predictor) -> int:
    """Return the shorter side to feed; EvaluationError if the protocol says another."""
    if arguments.protocol == "plain":
        return arguments.ref_size or predictor.ref_size
    if arguments.ref_size not in (None, PPM_REF_SIZE):
        raise EvaluationError(f"--protocol ppm means --ref-size {PPM_REF_SIZE}")
    return PPM_REF_SIZE


def check_channels(predictor: Predictor, trimap: bool) -> None:
    """Raise EvaluationError unless the network takes what it will be fed."""
    wanted = 4 if trimap else 3
    if predictor.in_channels != wanted:
        hint = "without" if trimap else "with"
        problem = f"takes {predictor.in_channels} channels: evaluate it {hint} --trimap"
        raise EvaluationError(f"{predictor.path}: {problem}")


def check_targets(paths: Sequence[Path | None]) -> None:
    """Raise EvaluationError for a result that could not be written, before the long part."""
    for path in paths:
        if path and (path.is_dir() or not path.parent.is_dir()):
            problem = "is a folder" if path.is_dir() else "no such folder to write to"
            raise EvaluationError(f"{path}: {problem}")


def select(pairs: Sequence[Pair], split: str, limit: int | None) -> list[Pair]:
    """Return the pairs of a split, thinned out to the limit."""
    chosen = [pair for pair in pairs if split in ("all", pair.split)]
    if not chosen:
        raise EvaluationError(f"no photos of the split {split}")
    return thin_out(chosen, limit)


def thin_out(cases: list[Pair], limit: int | None) -> list[Pair]:
    """Return at most `limit` cases, evenly spread, the same ones each time."""
    if limit is None or limit >= len(cases):
        return cases
    return [cases[index * len(cases) // limit] for index in range(limit)]


@contextmanager
def track(cases: Sequence[Pair]) -> Iterator[Iterator[Pair]]:
    """Give the cases one by one and show on stderr how far and how long."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    is_hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        yield iter(progress.track(cases, total=len(cases)))


def format_results(arguments: argparse.Namespace, results: list[Result], ref_size: int) -> str:
    """Return the means, by folder too where there are several, and the paper's row for `ppm`."""
    names = list(results[0].values)

    def make_row(title: str, size: str, count: str, values: dict[str, float]) -> list[str]:
        return [title, size, count, *format_values(values, names)]

    mean = average_results(results)
    rows = [make_row(arguments.model.name, str(ref_size), str(len(results)), mean)]
    for folder, group in group_by_folder(results).items():
        title = f"- {folder or '.'}"
        rows.append(make_row(title, str(ref_size), str(len(group)), average_results(group)))
    if arguments.protocol == "ppm" and not arguments.clips:
        rows += [make_row(title, "512", "100", values) for title, values in PUBLISHED.items()]
    count = "clips" if arguments.clips else "photos"
    return format_table(["model", "ref_size", count, *(TITLES[name] for name in names)], rows)


if __name__ == "__main__":
    sys.exit(main())
