"""The systemd unit: valid, and as shut in as the page says."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.__main__ import EXIT_CANNOT_START
from service.settings import ENV_PREFIX, Settings
from tests.helpers import ROOT

UNIT = ROOT / "deploy" / "systemd" / "matting.service"
PAGE = ROOT / "docs" / "deploy.md"
MOST_EXPOSURE = 1.5  # of 10; systemd calls up to 2 "OK"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def read_service() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def run(*arguments: object) -> str:
    done = subprocess.run([ANALYZE, *map(str, arguments)], capture_output=True, text=True)
    return done.stdout + done.stderr


@needs_systemd
def test_unit_is_valid(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/matting/bin/python", shutil.which("true")))
    assert [line for line in run("verify", here).splitlines() if UNIT.name in line] == []


@needs_systemd
def test_exposure_is_what_the_page_says() -> None:
    report = run("security", "--offline=true", "--no-pager", UNIT)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", report)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot do it offline: {report[:200]}")
    assert float(found[1]) <= MOST_EXPOSURE, report
    (told,) = re.findall(r"exposure level is ([0-9.]+)", PAGE.read_text())
    assert float(told) == pytest.approx(float(found[1]), abs=0.2), "versions count differently"


def test_unit_gives_time_to_drain_and_starts_again_what_can_start() -> None:
    service = read_service()
    drain_s = sum(Settings.model_fields[f"drain_{name}_s"].default for name in ("delay", "timeout"))
    assert int(service["TimeoutStopSec"]) >= drain_s + 10
    assert int(service["RestartPreventExitStatus"]) == EXIT_CANNOT_START
    assert service["Restart"] == "on-failure"
    assert service["ExecStart"].endswith("/bin/python -m service")


def test_unit_names_settings_that_are_there() -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+", UNIT.read_text()))
    assert named - {"MATTING_"} <= known
