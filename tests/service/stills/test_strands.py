"""Strands that a process of its own looks for: the same, and an end when nobody waits."""

from importlib.util import find_spec

import cv2
import numpy as np
import psutil
import pytest

from service.matting.fine import find_unsure, solve
from service.media.wire.apart import apart_s
from service.stills import strands
from service.stills.strands import solve_strands
from service.threads import TooLate, never

# Not imported here: it takes a second, in each process of a run.
pytestmark = pytest.mark.skipif(find_spec("pymatting") is None, reason="no pymatting")


@pytest.fixture
def problem(portrait, monkeypatch: pytest.MonkeyPatch):
    """A picture, its hazy alpha and the band in between, which are large for this test."""
    monkeypatch.setattr(strands, "APART_BAND", 1)
    alpha = np.zeros((120, 90), np.float32)
    alpha[30:90, 20:70] = 1
    alpha = cv2.GaussianBlur(alpha, (0, 0), 3)
    return portrait[:120, 200:290], alpha, find_unsure(alpha)


def test_process_finds_the_same(problem) -> None:
    before_s = apart_s.get()
    np.testing.assert_array_equal(solve_strands(*problem, never), solve(*problem, never))
    assert apart_s.get() > before_s, "the gate counts what it took"


def test_process_ends_when_nobody_waits_for_it(problem) -> None:
    before = psutil.Process().children()
    with pytest.raises(TooLate):
        solve_strands(*problem, lambda: psutil.Process().children() != before)
    assert psutil.Process().children() == before


def test_process_is_bounded_in_memory(problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strands, "MEMORY_BYTES", 1 << 28)
    with pytest.raises(RuntimeError, match="strands_child ended with"):
        solve_strands(*problem, never)
