"""`matte doctor` on this machine, and on machines that lack something."""

import json
from pathlib import Path

import pytest

from cli.__main__ import main as matte
from cli.doctor import checks
from service.settings import Settings

STATES = {"ok", "absent", "warning", "failed"}


@pytest.fixture
def examine(capsys):
    """Return `examine()`: the exit code and the findings by name."""

    def run() -> tuple[int, dict[str, dict]]:
        code = matte(["doctor", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert told["ok"] is (code == 0)
        return code, {finding["name"]: finding for finding in told["checks"]}

    return run


def test_everything_is_tried_on_this_machine(examine) -> None:
    code, found = examine()
    assert code == 0, found
    assert {"settings", "threads", "memory", "disk", "clips"} <= {*found}
    assert "ms for a portrait" in found["device cpu"]["text"]
    assert "as expected" in found["model modnet-fast.onnx"]["text"]
    assert "JPEG, PNG, WEBP, AVIF, HEIF" in found["photos"]["text"]
    for finding in found.values():
        assert finding["state"] in STATES
        assert finding["state"] == "ok" or finding["advice"]
    cuda = found["device cuda"]
    assert cuda["state"] == "ok" or "no CUDA" in cuda["text"] and "[gpu]" in cuda["advice"]


def test_what_is_wrong_fails_and_says_what_to_do(monkeypatch, tmp_path, capsys) -> None:
    for check in ("check_photo_formats", "check_device"):  # long, and in the test above
        monkeypatch.setattr(checks, check, lambda *_: ())
    monkeypatch.setattr(checks, "DEVICES", ())
    monkeypatch.setenv("MATTING_MODEL_SHA256", "0" * 64)
    monkeypatch.setenv("MATTING_THREADS", "500")
    assert matte(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (model,) = [line for line in lines if "model modnet-fast.onnx" in line]
    assert model.startswith("failed") and "expected " + "0" * 64 in model and "to do: " in model
    (threads,) = [line for line in lines if line.split()[1] == "threads"]
    assert threads.startswith("warning") and "MATTING_THREADS" in threads


def test_setting_that_is_none_is_said(monkeypatch, capsys) -> None:
    for check in ("check_photo_formats", "check_models"):
        monkeypatch.setattr(checks, check, lambda *_: ())
    monkeypatch.setattr(checks, "DEVICES", ())
    monkeypatch.setenv("MATTING_THREDS", "1")
    assert matte(["doctor"]) == 1
    assert "did you mean MATTING_THREADS?; to do: " in capsys.readouterr().out


def test_device_that_was_asked_for_must_be_there(monkeypatch) -> None:
    finding = checks.check_device("cuda", Settings(device="cuda"))
    if finding.state == "ok":
        pytest.skip("this machine has CUDA")
    assert finding.state == "failed"
    assert checks.check_device("cuda", Settings()).state == "absent"


def test_wrong_matte_is_seen(monkeypatch) -> None:
    monkeypatch.setattr(checks.OnnxEngine, "run", lambda self, batch: batch[:, 0] * 0)
    finding = checks.check_device("cpu", Settings())
    assert finding.state == "failed" and "0% of it is person" in finding.text


@pytest.mark.parametrize(
    "limit, state", [("max", "ok"), (str(5 * 2**30), "ok"), (str(2**31), "warning")]
)
def test_memory_is_that_of_the_container(tmp_path: Path, limit: str, state: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n")
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(str(2**30))
    assert checks.check_memory(meminfo, tmp_path).state == state


def test_full_disk_is_a_warning(tmp_path: Path) -> None:
    assert checks.check_disk(Settings(data_dir=tmp_path, disk_min_free_percent=0)).state == "ok"
    finding = checks.check_disk(Settings(data_dir=tmp_path, disk_min_free_bytes=2**60))
    assert finding.state == "warning" and "MATTING_DATA_DIR" in finding.advice
