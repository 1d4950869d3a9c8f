"""Freed memory is used again."""

import subprocess
import sys

from tests.helpers import ROOT

SCRIPT = """
import resource, threading
import numpy as np
from service.memory import keep_freed_memory

keep_freed_memory()

def work():
    for _ in range(20):
        frames = [np.ones(1 << 20, np.float32) for _ in range(6)]
        del frames

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

count_faults()
print(count_faults())
"""


def test_frames_take_the_pages_of_those_before() -> None:
    """Six arrays of 1,024 pages, twenty times; without it most are fresh every time."""
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert int(finished.stdout) < 2 * 6 * 1024
