"""Work in a process of its own, for what cannot be told to stop: the process can be ended.

Input and output are files in memory: pipes would need threads, and pixels would be copied again.
"""

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import service
from service.errors import NotReady
from service.media.wire.channel import Buffer
from service.media.wire.sealed import seal
from service.threads import IsLate, check_time

LOOK_S = 0.02  # between two questions whether the result is there, and still waited for
apart_s = ContextVar("apart_s", default=0.0)  # of a core, that work for this request took apart
KEPT_VARIABLES = ("NUMBA_CACHE_DIR",)  # of the service's environment, which may hold keys


def run_apart(
    module: str, facts: Mapping[str, Any], parts: Iterable[Buffer], is_late: IsLate
) -> bytes:
    """Return what a module writes when it is run with these facts and parts (see `read_work`).

    `memory_bytes` among the facts bounds its address space. Raises TooLate when `is_late` says so,
    NotReady when there is no room for a process, and RuntimeError when it fails.
    """
    given = seal(parts)
    made = os.memfd_create("made", os.MFD_CLOEXEC)
    try:
        code = _run(module, facts, given, made, is_late)
        if code == -signal.SIGKILL:  # as a rule by a system that has no memory left
            raise NotReady("there is no memory for this work", retry_after_s=5)
        if code != 0:
            raise RuntimeError(f"{module} ended with {code}")
        os.lseek(made, 0, os.SEEK_SET)
        with os.fdopen(os.dup(made), "rb") as file:
            return file.read()
    finally:
        os.close(given)
        os.close(made)


def _run(module: str, facts: Mapping[str, Any], given: int, made: int, is_late: IsLate) -> int:
    """Return how a process ended; it never outlives this call."""
    command = [sys.executable, "-P", "-m", module, str(os.getpid()), json.dumps(facts)]
    environ = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environ["PYTHONPATH"] = str(Path(service.__file__).parent.parent)
    try:
        process = subprocess.Popen(
            command, stdin=given, stdout=made, stderr=subprocess.DEVNULL, env=environ, cwd="/"
        )
    except OSError as error:
        raise NotReady(f"no process could be started: {error}", retry_after_s=5) from None
    try:
        while True:
            check_time(is_late)
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                apart_s.set(apart_s.get() + used.ru_utime + used.ru_stime)
                return process.returncode
            time.sleep(LOOK_S)
    finally:
        process.kill()
        process.wait()


def read_work() -> tuple[dict[str, Any], memoryview]:
    """Return the facts and the parts, one after another, in the process that is to do the work.

    Its result goes to standard output.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's to handle
    facts = json.loads(sys.argv[2])
    if "memory_bytes" in facts:
        resource.setrlimit(resource.RLIMIT_AS, (facts["memory_bytes"],) * 2)
    size = os.fstat(0).st_size
    return facts, memoryview(mmap.mmap(0, size, prot=mmap.PROT_READ))
