"""`matte doctor`: one line for each thing that the service needs, tried on this machine."""

import json
import logging
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.doctor.checks import Finding, check_all

STYLES = {"ok": "green", "absent": "dim", "warning": "yellow", "failed": "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
) -> None:
    """Check what works on this machine: devices, codecs, models, memory, disk.

    A portrait is run through the network on every device. Exit code 1 when something failed; what
    is absent need not be there.
    """
    logging.getLogger("service").addHandler(logging.NullHandler())  # each line says it already
    console = Console(highlight=False)
    findings = []
    for finding in check_all():
        findings.append(finding)
        if not as_json:
            console.print(format_finding(finding), soft_wrap=True)
    has_failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": not has_failed, "checks": checks}, indent=2))
    if has_failed:
        raise typer.Exit(1)


def format_finding(finding: Finding) -> Text:
    """Return the line of a finding."""
    text = finding.text + (f"; to do: {finding.advice}" if finding.advice else "")
    line = Text(f"{finding.state:<9}", style=STYLES[finding.state])
    return line.append(f"{finding.name:<26}{text}", style="default")
