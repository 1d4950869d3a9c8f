"""Benchmarks and scripts of pictures are run by hand: these tests see that they still start."""

import importlib
import sys

import pytest

from benchmarks.video import ElsewhereEngine
from docs.make_flicker import make_frame, matte_clip
from service.inference.providers import DeviceError
from tests.fakes import FakeEngine
from tests.helpers import ROOT

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")) + ["peers.__main__"]


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_says_what_it_measures(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"benchmarks.{name}").main()
    assert caught.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_gpu_figures_take_the_place_of_older_ones(tmp_path, monkeypatch, capsys):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## GPU\n\nnot measured\n\n## Clips\n\nothers\n")
    flags = "--device cpu --seconds 0.01 --batch 2 --ref-size 64 --clip 96x64 --frames 4 --write"
    monkeypatch.setattr(sys, "argv", ["gpu", *flags.split(), "--results", str(results)])
    assert importlib.import_module("benchmarks.gpu").main() == 0
    text = results.read_text()
    assert text.count("## GPU") == 1 and text.endswith("\n## Clips\n\nothers\n")
    rows = [line.split() for line in text.splitlines() if line.startswith("| fp")]
    assert [row[1:4:2] for row in rows] == [["fp32", "64"], ["fp16", "64"], ["fp16,", "|"]]
    assert "composite |      4 |" in text
    assert "not measured" not in text and capsys.readouterr().out in text + "\n"


def test_gpu_figures_without_a_gpu_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cuda"])
    gpu = importlib.import_module("benchmarks.gpu")
    monkeypatch.setattr(gpu, "open_engine", refuse)
    assert gpu.main() == 3
    assert "no CUDA" in capsys.readouterr().err


def refuse(*_):
    raise DeviceError("no CUDA")


def test_flicker_is_drawn_of_the_service_of_today():
    raw, smoothed = matte_clip([make_frame(index) for index in range(3)])
    assert [matte.shape for matte in raw] == [matte.shape for matte in smoothed] == [(256, 384)] * 3


def test_network_elsewhere_has_no_second_run_beside_it():
    assert ElsewhereEngine(FakeEngine()).open_beside(2) is None
