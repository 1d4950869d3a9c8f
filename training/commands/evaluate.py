"""`matte evaluate MODEL DATA...`: how far the mattes of a network are from the true ones.

Every picture is fed as the service feeds it and its matte enlarged to the picture's own size, where
it is measured; the figures are plain means over the pictures of a folder. The protocol `ppm` is the
one of PPM-100's authors: the same with a shorter side of 512.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from training.commands.common import EXIT_INTERRUPTED, fail
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


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line says, field for field; `threads` 0: one per core."""

    model: Path
    data: list[Path]
    split: str
    protocol: str
    ref_size: int | None
    limit: int | None
    trimap: bool
    clips: bool
    csv: Path | None
    json: Path | None
    sheet: Path | None
    device: str
    threads: int


def run(options: EvaluateOptions) -> None:
    """Run the command; a failure is one line on stderr."""
    try:
        evaluate(options)
    except (EvaluationError, PredictorError, DataError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or options.data[0]}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("interrupted, nothing written", code=EXIT_INTERRUPTED)


def evaluate(options: EvaluateOptions) -> None:
    """Measure and report; raises EvaluationError, PredictorError, DataError or OSError."""
    check_targets([options.csv, options.json, options.sheet])
    predictor = open_predictor(options.model, Placement(options.device, options.threads))
    check_channels(predictor, options.trimap)
    if options.clips and (options.trimap or options.sheet):
        raise EvaluationError("--trimap and --sheet are for photos, not for --clips")
    ref_size = choose_ref_size(options, predictor)
    # Photos pass as they are served, perhaps twice, unless a size is given.
    fed = options.ref_size if options.protocol == "plain" else ref_size
    passes = predictor.photo_ref_sizes if fed is None and not options.clips else ()
    shown = " + ".join(map(str, passes or (ref_size,)))
    cases = find_cases(options)

    def measure(case: Pair) -> Result:
        if options.clips:
            return measure_clip(predictor, case, ref_size)
        return measure_photo(predictor, case, fed)

    start = time.monotonic()
    with track(list(cases.values())) as tracked:
        measured = [measure(case) for case in tracked]
    elapsed_s = time.monotonic() - start

    folders: dict[str, list[Result]] = {}
    for case, result in zip(cases.values(), measured, strict=True):
        folders.setdefault(case.data_set, []).append(result)
    for name, group in folders.items():
        if len(folders) > 1:
            print(f"{name}:\n")
        print(format_results(options, group, shown) + "\n" * (len(folders) > 1))
    print(f"{predictor.runs_on}, {elapsed_s:.0f} s in all")
    results = [replace(result, id=id) for id, result in zip(cases, measured, strict=True)]
    about = {
        "model": options.model.name,
        "sha256": hashlib.sha256(options.model.read_bytes()).hexdigest(),
        "protocol": options.protocol,
        "ref_size": ref_size,
        "photo_ref_sizes": passes,
        "split": options.split,
        "trimap": options.trimap,
    }
    if len(folders) > 1:
        about["means"] = {name: average_results(group) for name, group in folders.items()}
    if options.csv:
        write_csv(options.csv, results)
    if options.json:
        write_json(options.json, results, about)
    if options.sheet:
        worst = sorted(results, key=lambda result: -result.values["mad"])[:WORST_CASES]
        rows = [draw_case(predictor, cases[r.id], r, fed) for r in worst]
        draw_sheet(rows).save(options.sheet, format="PNG")


def find_cases(options: EvaluateOptions) -> dict[str, Pair]:
    """Return the pictures or clips of all folders by id; with several folders it names them."""
    names = [folder.resolve().name for folder in options.data]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in options.data]
    cases: dict[str, Pair] = {}
    for folder, name in zip(options.data, names, strict=True):
        if options.clips:
            found = thin_out(find_clip_pairs(folder), options.limit)
        else:
            found = select(find_pairs(folder), options.split, options.limit)
        prefix = f"{name}/" if len(names) > 1 else ""
        cases |= {prefix + case.id: replace(case, data_set=name) for case in found}
    return cases


def choose_ref_size(options: EvaluateOptions, predictor: Predictor) -> int:
    """Return the shorter side to feed; EvaluationError if the protocol says another."""
    if options.protocol == "plain":
        return options.ref_size or predictor.ref_size
    if options.ref_size not in (None, PPM_REF_SIZE):
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


def format_results(options: EvaluateOptions, results: list[Result], size: str) -> str:
    """Return the means, by folder too where there are several, and the paper's row for `ppm`."""
    names = list(results[0].values)

    def make_row(title: str, size: str, count: str, values: dict[str, float]) -> list[str]:
        return [title, size, count, *format_values(values, names)]

    mean = average_results(results)
    rows = [make_row(options.model.name, size, str(len(results)), mean)]
    for folder, group in group_by_folder(results).items():
        title = f"- {folder or '.'}"
        rows.append(make_row(title, size, str(len(group)), average_results(group)))
    if options.protocol == "ppm" and not options.clips:
        rows += [make_row(title, "512", "100", values) for title, values in PUBLISHED.items()]
    count = "clips" if options.clips else "photos"
    return format_table(["model", "ref_size", count, *(TITLES[name] for name in names)], rows)
