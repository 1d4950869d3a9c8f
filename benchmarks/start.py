"""`make bench-start`: core-s and MiB of a cold start.

The service until `/readyz` says 200, with its decoder children and both embedded models; the
process that decoder children are forked from alone; `matte` for its version and for one photo. CPU
time is that of the operating system's own books, so other work on the machine shows in the wall
time only. `--against FOLDER` measures another checkout by turns with this one.
Prints a Markdown table for RESULTS.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.serving import describe_run, find_free_port, wait_until_ready
from training.evaluation.results import format_table

Cost = tuple[float, float, float]  # core-s, wall seconds, MiB (resident, the largest process)
PHOTO = Path("examples/portrait.jpg")
TEMPLATE = "from service.media.decoder.child import load; load()"
MATTE = "import sys; from cli.__main__ import main; sys.exit(main(sys.argv[1:]))"


def measure_service(checkout: Path) -> Cost:
    """Start the service; return what it has cost when it is ready."""
    port, start_s = find_free_port(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {"MATTING_DATA_DIR": folder, "MATTING_LOG_LEVEL": "warning"}
        command = [sys.executable, "-m", "service", f"--port={port}"]
        process = psutil.Popen(command, cwd=checkout, env=environ, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(port, process)
            wall_s = time.perf_counter() - start_s
            family = [process, *process.children(recursive=True)]
            core_s = sum(sum(one.cpu_times()[:2]) for one in family)
            return core_s, wall_s, max(one.memory_info().rss for one in family) / 2**20
        finally:
            process.terminate()
            process.wait()


def measure_command(arguments: list[str], checkout: Path) -> Cost:
    """Run Python to its end; return what it has cost."""
    start_s = time.perf_counter()
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    wall_s = time.perf_counter() - start_s
    return usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 2**10


def list_starts(folder: Path) -> dict[str, Callable[[Path], Cost]]:
    """Return what is measured, by the name of its row; results go to the folder."""
    image = ["image", str(PHOTO.resolve()), str(folder / "alpha.png"), "--force"]

    def command(*arguments: str) -> Callable[[Path], Cost]:
        return lambda checkout: measure_command(list(arguments), checkout)

    return {
        "`python -m service` until it is ready": measure_service,
        "what decoder children are forked from": command("-c", TEMPLATE),
        "`matte --version`": command("-c", MATTE, "--version"),
        f"`matte image {PHOTO.name}`": command("-c", MATTE, *image),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each measurement")
    parser.add_argument("--against", type=Path, help="another checkout, measured by turns")
    options = parser.parse_args()
    checkouts = [Path.cwd(), *([options.against] if options.against else [])]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in list_starts(Path(folder)).items():
            found: list[list[Cost]] = [[] for _ in checkouts]
            for _ in range(options.rounds):
                for checkout, costs in zip(checkouts, found, strict=True):
                    costs.append(measure(checkout))
            here, *before = (
                [statistics.median(column) for column in zip(*costs, strict=True)]
                for costs in found
            )
            texts = [f"{here[0]:.2f}", f"{here[1]:.2f}", f"{here[2]:.0f}"]
            for other in before:
                texts += [f"{other[0]:.2f}", f"{here[0] / other[0]:.2f}", f"{other[1]:.2f}"]
            rows.append([name, *texts])
    titles = ["median", "core-s", "wall s", "MiB"]
    print(f"### {describe_run('make bench-start')}\n")
    more = ["core-s before", "ratio", "wall s before"] if len(checkouts) > 1 else []
    print(format_table([*titles, *more], rows))


if __name__ == "__main__":
    main()
