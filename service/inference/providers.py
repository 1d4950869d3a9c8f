"""Choose the execution provider, and verify that it is the one that runs."""

import ctypes
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import (
    NotImplemented as NotImplementedByRuntime,
)

from service.inference import openvino
from service.inference.openvino import OPENVINO

log = logging.getLogger(__name__)

# What onnxruntime raises, loading and running; its classes have no common base but Exception.
ORT_ERRORS = (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplementedByRuntime,
    RuntimeException,
)
Device = Literal["auto", "cpu", "openvino", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# HEURISTIC: the default search tries every algorithm on each new shape, seconds of it, and takes
# gigabytes of workspace while it does.
CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
HINTS = {
    CUDA: "install the CUDA build (pip install 'matting-service[gpu]', NVIDIA driver 580 or newer)",
    OPENVINO: "install the build with OpenVINO (pip install 'matting-service[openvino]')",
}
# Packages that bring the module `onnxruntime`: the one installed last wins.
BUILDS = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu")
# Where the time of a network goes. Arithmetic on shapes may stay on the CPU.
HEAVY_OPERATORS = {
    *("Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv"),
    *("Attention", "Einsum", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"),
    *("GRU", "LSTM", "RNN", "GridSample", "If", "Loop", "Scan"),
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"),
}


class DeviceError(RuntimeError):
    """The device that was asked for is not there; the text says what to install or set."""


@dataclass(frozen=True)
class OpenSession:
    """An onnxruntime session with the provider it really runs on.

    `precision` is what that provider computes in, None: as the file says; `note` says why it is
    not a faster provider.
    """

    session: ort.InferenceSession
    provider: str
    precision: str | None
    note: str | None = None


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
    model: bytes, device: Device, *, threads: int, precision: Precision = "auto", lanes: int = 1
) -> OpenSession:
    """Open a session on the device; `auto` takes the first usable of CUDA, OpenVINO and the CPU.

    On a processor `lanes` runs at once share the `threads` (0: all usable cores).
    Raises DeviceError when a device or a precision is asked for that cannot be had: onnxruntime
    would run on the CPU with a warning, so what it does is read back from the session.
    """
    check_builds()
    threads = threads or count_threads()
    openers: dict[str, Callable[[], OpenSession]] = {
        "cuda": lambda: _open_cuda(model, threads),
        "openvino": lambda: _open_openvino(model, threads, precision, lanes),
        # Its threads are those of one run.
        "cpu": lambda: _open_cpu(model, threads // lanes),
    }
    if precision == "bf16" and device != "openvino":
        raise DeviceError(
            f"precision=bf16 needs OpenVINO, and the device is {device}; set "
            "MATTING_DEVICE=openvino or MATTING_PRECISION=auto"
        )
    if device != "auto":
        return openers[device]()
    reasons: list[str] = []
    for name, open_there in openers.items():
        try:
            opened = open_there()
        except DeviceError as error:
            reasons.append(str(error).partition(";")[0])
        except ORT_ERRORS:
            if name == "cpu":
                raise
            reasons.append(f"no {name}: it cannot load this network")
        else:
            break
    if opened.provider == CPU:
        log.warning("running on the CPU", extra={"fields": {"reasons": reasons}})
    return replace(opened, note="; ".join(reasons) or None)


def check_builds() -> None:
    """Refuse two builds of onnxruntime side by side; raises DeviceError."""
    found = [name for name in BUILDS if _is_installed(name)]
    if len(found) > 1:
        names = " and ".join(found)
        raise DeviceError(
            f"{names} are both installed and overwrite each other's files; run pip uninstall -y "
            f"{' '.join(found)}, then install one extra: [cpu], [openvino] or [gpu]"
        )


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _make_options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # with many input sizes it only keeps memory
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from the decoders and encoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Small pieces of work: a core that is busy with a codec does not keep the other one waiting.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _open_cpu(model: bytes, threads: int) -> OpenSession:
    session = ort.InferenceSession(model, _make_options(threads), providers=[CPU])
    session.disable_fallback()
    return OpenSession(session, CPU, None)


def _open_cuda(model: bytes, threads: int) -> OpenSession:
    reason = cuda_unavailable_reason()
    if reason is not None:
        raise _unavailable("cuda", CUDA, reason)
    session = _open_on("cuda", CUDA, CUDA_OPTIONS, model, threads)
    return OpenSession(session, CUDA, None)


def _open_openvino(model: bytes, threads: int, precision: Precision, lanes: int) -> OpenSession:
    if OPENVINO not in ort.get_available_providers():
        raise _unavailable("openvino", OPENVINO, "this onnxruntime is built without it")
    if precision == "auto":
        precision = "bf16" if openvino.has_fast_bf16() else "fp32"
    options = openvino.make_options(precision, threads, lanes)
    probe = _open_on("openvino", OPENVINO, options, openvino.PROBE.read_bytes(), threads)
    found = openvino.measure_precision(probe)
    if found != precision:
        raise DeviceError(
            f"precision={precision}, but OpenVINO computes in {found} on this processor; set "
            f"MATTING_PRECISION=auto"
        )
    session = _open_on("openvino", OPENVINO, options, model, threads)
    return OpenSession(session, OPENVINO, precision)


def _open_on(
    device: str, provider: str, provider_options: dict[str, str], model: bytes, threads: int
) -> ort.InferenceSession:
    """Open a session that runs on the provider, or raise DeviceError.

    With options that a provider refuses, onnxruntime runs its own CPU provider without an error;
    operators that a provider lacks go to the CPU one by one.
    """
    options = _make_options(threads)
    try:
        session = ort.InferenceSession(
            model, options, providers=[(provider, provider_options), CPU]
        )
    except ORT_ERRORS:
        _open_cpu(model, threads)  # raises if it is the file that is wrong
        raise _unavailable(device, provider, "it cannot load this network") from None
    session.disable_fallback()  # a failing run would otherwise move to the CPU for good
    if session.get_providers()[0] != provider:
        raise _unavailable(device, provider, "onnxruntime could not load the provider")
    on_provider, elsewhere = 0, set()
    for part in session.get_provider_graph_assignment_info():
        operators = {node.op_type for node in part.get_nodes()}
        if part.ep_name == provider:
            on_provider += len(operators)
        else:
            elsewhere |= operators & HEAVY_OPERATORS
    if elsewhere or not on_provider:
        missing = ", ".join(sorted(elsewhere)) or "the whole network"
        raise _unavailable(device, provider, f"it leaves {missing} to the CPU")
    return session


def _unavailable(device: str, provider: str, reason: str) -> DeviceError:
    name = {CUDA: "CUDA", OPENVINO: "OpenVINO"}[provider]
    return DeviceError(
        f"no {name}: {reason}; for device={device} {HINTS[provider]}, or set MATTING_DEVICE=auto "
        "or MATTING_DEVICE=cpu"
    )


def cuda_unavailable_reason() -> str | None:
    """Return why CUDA cannot be tried, None when it can."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without it"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed"
    ort.preload_dlls()  # from the wheels of the [gpu] extra; it only prints what it cannot load
    return None
