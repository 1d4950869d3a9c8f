"""`make audit`: known vulnerabilities of the packages in the images' lock files.

Says for each file what was checked and what was not. Exit code 0: all packages were checked and
none is known to be vulnerable; 1: some are; 2: some could not be checked, whatever the others are.
pip-audit alone ends with 0 where it reaches a package index that has no advisories.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VULNERABLE, NOT_CHECKED = 1, 2
SERVICES = ("pypi", "osv")  # the second is asked where the first knows nothing
TIMEOUT_S = 600
SHOWN = 3  # packages that are named as examples


@dataclass
class Audit:
    """What is known of the packages of one file."""

    checked: set[str] = field(default_factory=set)
    not_checked: dict[str, str] = field(default_factory=dict)
    vulnerable: dict[str, list[str]] = field(default_factory=dict)

    def add(self, found: Sequence[dict[str, Any]]) -> None:
        """Take in a report of pip-audit."""
        for package in found:
            name = package["name"]
            if "skip_reason" in package:
                if name not in self.checked:
                    self.not_checked[name] = package["skip_reason"]
                continue
            self.checked.add(name)
            self.not_checked.pop(name, None)
            if known := [one["id"] for one in package["vulns"]]:
                self.vulnerable[f"{name} {package['version']}"] = known


def ask(program: str, lock: Path, service: str) -> tuple[list[dict[str, Any]], str]:
    """Return pip-audit's report on a lock file, or nothing and why there is none."""
    command = [program, "--require-hashes", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--vulnerability-service", service]
    try:
        done = subprocess.run(
            [*command, "--requirement", str(lock)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return json.loads(done.stdout)["dependencies"], ""
    except subprocess.TimeoutExpired:
        return [], f"no answer within {TIMEOUT_S} s"
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def audit(program: str, lock: Path) -> int:
    """Print what is known of one file, and return the exit code that follows from it."""
    result, failures = Audit(), []
    for service in SERVICES:
        found, failure = ask(program, lock, service)
        result.add(found)
        if failure:
            failures.append(f"{service}: {failure}")
        elif not result.not_checked:
            break
    print(f"{lock.name}: {len(result.checked)} packages checked, {len(result.vulnerable)} of them")
    print(f"  vulnerable; {len(result.not_checked)} not checked")
    for name, known in sorted(result.vulnerable.items()):
        print(f"  VULNERABLE {name}: {', '.join(known)}")
    for name, reason in sorted(result.not_checked.items())[:SHOWN]:
        print(f"  NOT CHECKED {name}: {reason}")
    if len(result.not_checked) > SHOWN:
        print(f"  NOT CHECKED: {len(result.not_checked) - SHOWN} others")
    for failure in failures:
        print(f"  NO ANSWER from {failure}")
    if not result.checked:
        print("  Nothing could be checked: no advisories are within reach.")
    if result.not_checked or not result.checked:
        return NOT_CHECKED
    return VULNERABLE if result.vulnerable else 0


def main(locks: Sequence[str]) -> int:
    """Audit lock files with the pip-audit beside this Python; return the exit code."""
    program = shutil.which("pip-audit", path=str(Path(sys.executable).parent))
    if program is None or not locks:
        print("usage: python deploy/audit.py LOCK...; needs pip-audit beside this Python")
        return NOT_CHECKED
    return max(audit(program, Path(lock)) for lock in locks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
