"""Freed memory is used again, and the threads of a service do not keep it each for itself."""

import subprocess
import sys

from service.memory import HEAPS, KEPT_BYTES
from tests.helpers import ROOT

FAULTS = """
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

KEPT = """
import threading
import numpy as np, psutil
from service.memory import keep_freed_memory

keep_freed_memory()
together, process = threading.Barrier(12), psutil.Process()

def work():
    together.wait()
    frames = [np.ones(1 << 20, np.float32) for _ in range(10)]
    del frames
    together.wait()

threads = [threading.Thread(target=work) for _ in range(12)]
before = process.memory_info().rss
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(process.memory_info().rss - before)
"""


def run(script: str) -> int:
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return int(finished.stdout)


def test_frames_take_the_pages_of_those_before() -> None:
    """Six arrays of 1,024 pages, twenty times; without it most are fresh every time."""
    assert run(FAULTS) < 2 * 6 * 1024


def test_threads_keep_no_heap_each() -> None:
    """Twelve of 40 MiB at once: 480 MiB are given back but for what the heaps keep."""
    assert run(KEPT) < 2 * HEAPS * KEPT_BYTES
