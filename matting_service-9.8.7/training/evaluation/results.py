"""Results of an evaluation as a Markdown table, as CSV and as JSON."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Decimals that keep three digits of a good result.
DECIMALS = {"mse": 5, "mad": 5, "iou": 4, "sad": 2, "grad": 2, "conn": 2}
DECIMALS |= {"dtssd": 3, "messddt": 4, "flicker": 3}
TITLES = {"mse": "MSE", "mad": "MAD", "iou": "IoU", "sad": "SAD", "grad": "Grad", "conn": "Conn"}
TITLES |= {"dtssd": "dtSSD", "messddt": "MESSDdt", "flicker": "flicker"}
MISSING = "-"


@dataclass(frozen=True)
class Result:
    """The measures of one picture or clip; `id` as in the data set."""

    id: str
    width: int
    height: int
    values: dict[str, float]


def average_results(results: Sequence[Result]) -> dict[str, float]:
    """Return the plain mean of each measure over pictures, whatever their sizes."""
    names = results[0].values
    return {name: sum(r.values[name] for r in results) / len(results) for name in names}


def group_by_folder(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results by the first folder of their ids; empty if they share one."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.id.rpartition("/")[0].partition("/")[0], []).append(result)
    return groups if len(groups) > 1 else {}


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose columns stand straight; the first `left` ones are text."""
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]

    def join(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([join(header), join(rule), *map(join, rows)])


def format_values(values: dict[str, float], names: Sequence[str]) -> list[str]:
    """Return the cells of a row, a dash for what is missing."""
    return [f"{values[n]:.{DECIMALS[n]}f}" if n in values else MISSING for n in names]


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write a line per picture, then a line `mean`."""
    names = list(results[0].values)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "width", "height", *names])
        for result in results:
            writer.writerow([result.id, result.width, result.height, *result.values.values()])
        writer.writerow(["mean", "", "", *average_results(results).values()])


def write_json(path: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write `about` (model, protocol, ...), `mean` and `results`, a record per picture."""
    records = [{"id": r.id, "width": r.width, "height": r.height, **r.values} for r in results]
    content = {**about, "mean": average_results(results), "results": records}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
