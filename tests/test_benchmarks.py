"""Benchmarks are run by hand: these tests see that they still start."""

import importlib
import sys

import pytest

from tests.helpers import ROOT

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_says_what_it_measures(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"benchmarks.{name}").main()
    assert caught.value.code == 0
    assert "usage:" in capsys.readouterr().out
