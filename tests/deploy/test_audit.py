"""An audit that checked nothing does not pass for one that found nothing."""

import importlib.util
import json
import sys

import pytest

from tests.helpers import ROOT

SOUND = {"name": "sound", "version": "1", "vulns": []}
HARMFUL = {"name": "harmful", "version": "2", "vulns": [{"id": "CVE-2026-1"}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["audit"]


def make_program(folder, *reports: list[dict] | None):
    """Return a program that answers as pip-audit does: a report for each service, or none."""
    program = folder / "pip-audit"
    answers = dict(zip(("pypi", "osv"), reports, strict=True))
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nanswers = json.loads({json.dumps(answers)!r})\n"
        "found = answers[sys.argv[sys.argv.index('--vulnerability-service') + 1]]\n"
        "if found is None:\n    sys.exit('ERROR: no connection')\n"
        "print(json.dumps({'dependencies': found}))\n"
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    "reports, code, says",
    [
        (([SOUND], None), 0, "1 packages checked, 0 of them"),
        (([SOUND, HARMFUL], None), 1, "VULNERABLE harmful 2: CVE-2026-1"),
        (([SOUND, UNKNOWN], [SOUND, UNKNOWN]), 2, "NOT CHECKED unknown: Dependency not found"),
        (([UNKNOWN], None), 2, "Nothing could be checked"),
        ((None, None), 2, "NO ANSWER from osv: ERROR: no connection"),
        (([UNKNOWN], [UNKNOWN | {"name": "unknown", "version": "1", "vulns": []}]), 2, "NOT"),
        (([UNKNOWN, SOUND], [{"name": "unknown", "version": "1", "vulns": []}]), 0, "2 packages"),
    ],
)
def test_audit_says_what_it_checked_and_fails_for_the_rest(
    audit, tmp_path, capsys, reports, code, says
):
    program = make_program(tmp_path, *reports)
    assert audit.audit(program, tmp_path / "lock.txt") == code
    assert says in capsys.readouterr().out
