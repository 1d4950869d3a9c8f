"""Parity of an ONNX file with the PyTorch network it was exported from.

The report (JSON beside the ONNX file) has the keys

    model, version, precision          as in the file's metadata
    onnx_file, onnx_sha256             name and SHA-256 of the ONNX file
    checkpoint_file, checkpoint_sha256 name and SHA-256 of the checkpoint
    tolerance, max_abs, mean_abs       of the matte, over all cases
    cases                              list of {shape, max_abs, mean_abs}, shape = [N, C, H, W]
    versions                           python, torch, onnx, onnxscript, onnxruntime, numpy
"""

import hashlib
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import ExportError
from export.to_onnx import MatteOnly, Metadata

# Official wheels from 1.29 on report usage to their maker unless told not to before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import (
    NotImplemented as UnknownOperator,
)

ORT_ERRORS = (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    UnknownOperator,
    RuntimeException,
)

# Both sides in float32 on random images; torch and onnxruntime differ by up to 1.4e-4 there.
TOLERANCE = 1e-3
HALF_TOLERANCE = 2e-2  # in float16, by up to 7.5e-3
CASES = ((1, 32, 32), (1, 128, 160), (2, 96, 64), (1, 320, 256), (2, 224, 320))  # N, H, W


class VerificationError(ExportError):
    """The ONNX file does not do what the network does."""


@dataclass(frozen=True)
class Case:
    """Difference of the two mattes for one input shape."""

    shape: tuple[int, int, int, int]
    max_abs: float
    mean_abs: float


def compare(
    network: MatteOnly, onnx_bytes: bytes, seed: int = 0, takes_pixels: bool = False
) -> list[Case]:
    """Return the difference of `network(image)` and the ONNX matte for every shape of CASES.

    `takes_pixels`: the file is one of `export.pixels`, and does the network's normalisation.
    Raises VerificationError if the file cannot run one of the shapes or the sizes disagree.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(
            onnx_bytes, options, providers=["CPUExecutionProvider"]
        )
    except ORT_ERRORS as error:
        raise VerificationError(f"onnxruntime refuses the file: {error}") from error
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for batch, height, width in CASES:
        shape = (batch, network.in_channels, height, width)
        image = torch.rand(shape, generator=generator) * 2 - 1
        given = image.numpy()
        if takes_pixels:
            pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
            image = pixels / 127.5 - 1
            given = pixels.numpy().transpose(0, 2, 3, 1)
        with torch.inference_mode():
            expected = network(image).numpy()
        try:
            matte = session.run(["output"], {"input": given})[0]
        except ORT_ERRORS as error:
            raise VerificationError(f"{tuple(image.shape)}: {error}") from error
        if matte.shape != expected.shape:
            raise VerificationError(f"{tuple(image.shape)}: the matte has shape {matte.shape}")
        difference = np.abs(matte.astype(np.float64) - expected)
        cases.append(Case(shape, float(difference.max()), float(difference.mean())))
    return cases


def verify(
    network: MatteOnly,
    onnx_path: Path,
    checkpoint_file: str,
    metadata: Metadata,
    onnx_file: str,
    takes_pixels: bool = False,
) -> dict[str, Any]:
    """Return the report of the module's docstring, or raise VerificationError.

    `onnx_file` is the name the file will have, `onnx_path` where it lies now; `takes_pixels` as
    for `compare`.
    """
    onnx_bytes = onnx_path.read_bytes()
    cases = compare(network, onnx_bytes, takes_pixels=takes_pixels)
    max_abs = max(case.max_abs for case in cases)
    tolerance = HALF_TOLERANCE if metadata.precision == "fp16" else TOLERANCE
    # `not <=` so that a NaN fails too
    if not max_abs <= tolerance:
        problem = f"the ONNX file differs by {max_abs:.2g} from the network, allowed {tolerance:g}"
        raise VerificationError(problem)
    packages = ("torch", "onnx", "onnxscript", "numpy")
    return {
        "model": metadata.name,
        "version": metadata.version,
        "precision": metadata.precision,
        "onnx_file": onnx_file,
        "onnx_sha256": hashlib.sha256(onnx_bytes).hexdigest(),
        "checkpoint_file": checkpoint_file,
        "checkpoint_sha256": metadata.sha256,
        "tolerance": tolerance,
        "max_abs": max_abs,
        "mean_abs": sum(case.mean_abs for case in cases) / len(cases),
        "cases": [
            {"shape": list(case.shape), "max_abs": case.max_abs, "mean_abs": case.mean_abs}
            for case in cases
        ],
        "versions": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,  # one module of several packages
        }
        | {package: version(package) for package in packages},
    }
