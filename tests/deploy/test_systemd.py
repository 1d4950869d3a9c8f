"""The systemd unit: valid, and as shut in as the page says."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from service.__main__ import EXIT_CANNOT_START
from service.settings import ENV_PREFIX, Settings
from tests.helpers import ROOT, start_live_server

UNIT = ROOT / "deploy" / "systemd" / "matting.service"
PAGE = ROOT / "docs" / "deploy.md"
MOST_EXPOSURE = 1.5  # of 10; systemd calls up to 2 "OK"
AS_ROOT = {"fchown"}  # of SQLite, when root uses it, as tests may
STRACE = shutil.which("strace")
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


def list_calls(name: str) -> set[str]:
    """Return the system calls of a set such as @system-service."""
    calls = set()
    for line in run("syscall-filter", name).splitlines()[1:]:
        entry = line.strip()
        if entry.startswith("@"):
            calls |= list_calls(entry)
        elif entry and not entry.startswith("#"):
            calls.add(entry)
    return calls


def list_allowed() -> set[str]:
    """Return the system calls that the unit leaves, each line adding or taking away."""
    allowed: set[str] = set()
    for entry in re.findall(r"^SystemCallFilter=(\S+)$", UNIT.read_text(), re.MULTILINE):
        name = entry.removeprefix("~")
        calls = list_calls(name) if name.startswith("@") else {name}
        allowed = allowed - calls if entry.startswith("~") else allowed | calls
    return allowed


@needs_systemd
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_service_does_with_the_system_calls_that_the_unit_leaves(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    flags = ["-f", "-qq", "-o", str(trace), "-e", "signal=none"]
    server = start_live_server(tmp_path / "log", STRACE, *flags, data_dir=tmp_path)
    try:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            for path, name in (("/v1/image", "portrait.jpg"), ("/v1/video", "clip.mp4")):
                file = (ROOT / "examples" / name).read_bytes()
                options = {"outputs": "alpha", "preset": "ultrafast"} if "video" in path else {}
                answer = client.post(path, params=options, files={"file": (name, file)})
                assert answer.status_code == 200, answer.text
    finally:
        (service,) = psutil.Process(server.process.pid).children()
        service.terminate()  # strace itself keeps its signals to itself
        server.process.wait(120)
    used = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace.read_text(), re.M))
    assert {"capset", "prctl", "accept4"} <= used, "the children are among those that were traced"
    assert used - list_allowed() <= AS_ROOT


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
