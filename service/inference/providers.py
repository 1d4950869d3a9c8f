"""Choose the execution provider, and verify that it is the one that runs."""

import ctypes
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# HEURISTIC: the default search tries every algorithm on each new shape, seconds of it, and takes
# gigabytes of workspace while it does.
CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
CUDA_HINT = (
    "install the NVIDIA driver, 580 or newer, and the CUDA build of onnxruntime (the extra [gpu]; "
    "`make setup` chooses it where it finds the driver), or set MATTING_DEVICE=auto or cpu"
)


class DeviceError(RuntimeError):
    """The device that was asked for is not there; the text says what to install or set."""


@dataclass(frozen=True)
class OpenSession:
    """An onnxruntime session with the provider it really runs on; `note` says why not CUDA."""

    session: ort.InferenceSession
    provider: str
    note: str | None


def count_threads(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the cores this process may use: its affinity, and the cgroup's quota if smaller.

    onnxruntime counts the cores of the host instead, which in a container with a quota makes it
    fight itself.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))


def open_session(
    model: bytes, device: Literal["auto", "cpu", "cuda"], *, threads: int
) -> OpenSession:
    """Open a session on the device; raises DeviceError when `cuda` is asked for and not there.

    onnxruntime lists CUDA on machines without it and then runs on the CPU with a warning, so the
    provider is read back from the session.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or count_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # with many input sizes it only keeps memory
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from the decoders and encoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Small pieces of work: a core that is busy with a codec does not keep the other one waiting.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    if device == "cpu":
        return _open_on_cpu(model, options, None)
    reason = cuda_unavailable_reason()
    if reason is None:
        session = ort.InferenceSession(model, options, providers=[(CUDA, CUDA_OPTIONS), CPU])
        session.disable_fallback()  # a failing run would otherwise move to the CPU for good
        if session.get_providers()[0] == CUDA:
            return OpenSession(session, CUDA, None)
        reason = "onnxruntime could not load its CUDA provider"
    if device == "cuda":
        raise DeviceError(f"device=cuda, but CUDA is not usable: {reason}; {CUDA_HINT}")
    log.warning("running on the CPU", extra={"fields": {"reason": reason}})
    return _open_on_cpu(model, options, f"no CUDA: {reason}")


def _open_on_cpu(model: bytes, options: Any, note: str | None) -> OpenSession:
    session = ort.InferenceSession(model, options, providers=[CPU])
    session.disable_fallback()
    return OpenSession(session, CPU, note)


def cuda_unavailable_reason() -> str | None:
    """Return why CUDA cannot be tried, None when it can."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is the CPU build"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed"
    ort.preload_dlls()  # from the wheels of the [gpu] extra; it only prints what it cannot load
    return None
