"""Sizes of the gate, its progress, and the figures that it writes down.

`GATE=full`, as `make gate` sets it, makes runs as long as the figures of docs/reliability.md ask
for; `GATE_COUNT` sets the size of one part, in files, requests, kills or seconds. With either, what
was measured is written to benchmarks/RESULTS.md; without, runs are short and only print it.
"""

import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from tests.helpers import ROOT

T = TypeVar("T")
FULL = os.environ.get("GATE") == "full"
COUNT = int(os.environ.get("GATE_COUNT") or 0)
COMMAND = os.environ.get("GATE_COMMAND", "make gate")
EVERY_S = 15
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def choose(short: int, full: int) -> int:
    """Return a number of this gate: files, requests, seconds."""
    return COUNT or (full if FULL else short)


def follow(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, and now and then say how many there were and how long the rest will take."""
    start_s = told_s = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now_s = time.monotonic()
        if now_s - told_s > EVERY_S or number == total:
            told_s, rate = now_s, number / (now_s - start_s)
            left_s = (total - number) / rate
            line = f"{what}: {number} of {total}, {rate:.3g} a second, {left_s / 60:.1f} min left"
            print(line, file=sys.stderr, flush=True)


def report(title: str, figures: Mapping[str, object]) -> None:
    """Print figures, and put them in the place of the older ones of this title."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    lines = [
        f"## Gate: {title}",
        "",
        f"### {datetime.now(UTC):%Y-%m-%d}, `{COMMAND}`, {machine}",
        "",
        "| what | measured |",
        "|---|---|",
        *rows,
    ]
    section = "\n".join(lines) + "\n"
    print(f"\n{section}")
    if FULL or COUNT:
        text = RESULTS.read_text()
        old = re.compile(rf"## Gate: {re.escape(title)}\n.*?(?=\n## |\Z)", re.DOTALL)
        replaced, count = old.subn(lambda _: section, text)
        RESULTS.write_text(replaced if count else f"{text.rstrip()}\n\n{section}")


def find_percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
