"""Sizes of the gate, and the figures that it writes down.

`GATE=full`, as `make gate` sets it, makes runs as long as the figures of docs/reliability.md ask
for and writes what was measured to benchmarks/RESULTS.md; otherwise runs are short.
"""

import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from tests.helpers import ROOT

FULL = os.environ.get("GATE") == "full"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def choose(short: int, full: int) -> int:
    """Return a number of this gate: files, requests, seconds."""
    return full if FULL else short


def report(title: str, figures: Mapping[str, object]) -> None:
    """Print figures, and put them in the place of the older ones of this title."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    lines = [
        f"## Gate: {title}",
        "",
        f"### {datetime.now(UTC):%Y-%m-%d}, `make gate`, {machine}",
        "",
        "| what | measured |",
        "|---|---|",
        *rows,
    ]
    section = "\n".join(lines) + "\n"
    print(f"\n{section}")
    if FULL:
        text = RESULTS.read_text()
        old = re.compile(rf"## Gate: {re.escape(title)}\n.*?(?=\n## |\Z)", re.DOTALL)
        replaced, count = old.subn(lambda _: section, text)
        RESULTS.write_text(replaced if count else f"{text.rstrip()}\n\n{section}")


def find_percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
