"""Load an ONNX model from the bytes whose SHA-256 was verified."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

REQUIRED = (
    "name",
    "version",
    "sha256",
    "mean",
    "std",
    "stride",
    "ref_size",
    "licence",
    "precision",
)


class ModelError(RuntimeError):
    """The model file cannot be served; the text names the file and what is wrong."""


@dataclass(frozen=True)
class ModelFile:
    """The bytes of a model file and their SHA-256."""

    content: bytes
    sha256: str


@dataclass(frozen=True)
class ModelInfo:
    """What the file says of itself; `weights_sha256` is the checkpoint's it was exported from.

    `takes_trimap`: the input has a fourth channel for a trimap (-1 background, 0, 1 foreground).
    """

    name: str
    version: str
    sha256: str
    weights_sha256: str
    mean: float
    std: float
    stride: int
    ref_size: int
    licence: str
    precision: str
    takes_trimap: bool = False

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 4 if self.takes_trimap else 3


def read_model(path: Path, expected_sha256: str | None) -> ModelFile:
    """Read and verify a model file; raises ModelError.

    Without an expected hash, the one in the report that the exporter writes beside the file is
    used, if it is there.
    """
    if path.suffix != ".onnx":
        raise ModelError(
            f"{path.name} is not an ONNX file; convert it first: python -m export {path.name} "
            f"{path.stem}.onnx"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    expected = expected_sha256 or _read_reported_sha256(path.with_suffix(".json"))
    if expected and sha256 != expected:
        raise ModelError(f"{path} has the SHA-256 {sha256}, expected {expected}: refused")
    return ModelFile(content, sha256)


def _read_reported_sha256(report: Path) -> str | None:
    try:
        found = json.loads(report.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise ModelError(f"the export report {report} cannot be read") from None
    if not isinstance(found, dict) or not isinstance(found.get("onnx_sha256"), str):
        raise ModelError(f"the export report {report} has no onnx_sha256")
    return str(found["onnx_sha256"])


def read_info(session: ort.InferenceSession, file: ModelFile) -> ModelInfo:
    """Return the metadata that the exporter wrote; raises ModelError when it or a tensor is off."""
    metadata = session.get_modelmeta().custom_metadata_map
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise ModelError(f"the model has no metadata `{missing[0]}`: export it with `matte export`")
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [tensor.name for tensor in inputs] != ["input"] or outputs[0].name != "output":
        raise ModelError("the model's tensors are not `input` and `output`")
    channels = inputs[0].shape[1]
    if channels not in (3, 4):
        raise ModelError(f"the model's input has {channels} channels, not 3 or 4")
    try:
        return ModelInfo(
            name=metadata["name"],
            version=metadata["version"],
            sha256=file.sha256,
            weights_sha256=metadata["sha256"],
            mean=float(metadata["mean"]),
            std=float(metadata["std"]),
            stride=int(metadata["stride"]),
            ref_size=int(metadata["ref_size"]),
            licence=metadata["licence"],
            precision=metadata["precision"],
            takes_trimap=channels == 4,
        )
    except ValueError as error:
        raise ModelError(f"the model's metadata cannot be read: {error}") from None
