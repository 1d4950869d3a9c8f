"""Load an ONNX model from the bytes whose SHA-256 was verified."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.description import (
    Description,
    DescriptionError,
    parse_description,
    read_description,
)
from service.inference.providers import ORT_ERRORS

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
SIZES = ("stride", "ref_size")
PHOTO_SIZES = "photo_ref_sizes"  # may be left out
INPUT, OUTPUT = "input", "output"  # tensors of files with metadata
PIXELS = "uint8"
Numbers = float | tuple[float, float, float]
# A picture or a batch of them as the network takes it.
NetworkInput = NDArray[np.float32 | np.uint8]


class ModelError(RuntimeError):
    """The model file cannot be served; the text names the file and what is wrong."""


@dataclass(frozen=True)
class ModelFile:
    """The bytes of a model file, their SHA-256, and what the TOML file beside it says."""

    content: bytes
    sha256: str
    path: Path
    description: Description | None = None


@dataclass(frozen=True)
class ModelInfo:
    """What the file says of itself; `weights_sha256` is the checkpoint's it was exported from.

    `takes_trimap`: the input has a fourth channel for a trimap (-1 background, 0, 1 foreground).
    `takes_pixels`: the input is uint8 (N, h, w, 3) RGB and normalised inside, else (N, C, h, w).
    `fixed_size` is (height, width) where the network takes no other. `states` pairs the inputs and
    outputs of a recurrent network; `constants` are inputs that never change. The other fields are
    those of `Description`.
    """

    name: str
    version: str
    sha256: str
    weights_sha256: str
    mean: Numbers
    std: Numbers
    stride: int
    ref_size: int
    licence: str
    precision: str
    takes_trimap: bool = False
    takes_pixels: bool = False
    fixed_size: tuple[int, int] | None = None
    channel_order: Literal["rgb", "bgr"] = "rgb"
    input: str = INPUT
    output: str = OUTPUT
    activation: Literal["none", "sigmoid"] = "none"
    stretch: float | None = None
    photo_ref_sizes: tuple[int, int] | None = None
    max_batch_size: int | None = None
    states: tuple[tuple[str, str], ...] = ()
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 4 if self.takes_trimap else 3

    def make_blank(self, count: int, size: tuple[int, int]) -> NetworkInput:
        """Return an input of `count` pictures of (height, width) without anything in them."""
        if self.takes_pixels:
            return np.zeros((count, *size, 3), np.uint8)
        return np.zeros((count, self.channels, *size), np.float32)

    def read_size(self, batch: NetworkInput) -> tuple[int, int]:
        """Return the (height, width) of the pictures in an input."""
        height, width = batch.shape[1:3] if self.takes_pixels else batch.shape[2:]
        return height, width

    @property
    def is_recurrent(self) -> bool:
        """Whether a frame's matte depends on the frames before."""
        return bool(self.states)


def read_model(path: Path, expected_sha256: str | None) -> ModelFile:
    """Read and verify a model file and its description; raises ModelError.

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
    try:
        description = read_description(path.with_suffix(".toml"))
    except DescriptionError as error:
        raise ModelError(str(error)) from None
    return ModelFile(content, sha256, path, description)


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


def inspect_model(file: ModelFile) -> ModelInfo:
    """Return what is known of a model without preparing it to run; raises ModelError."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        # Loading from bytes also makes onnxruntime refuse references to other files.
        session = ort.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS:
        raise ModelError(f"{file.path} is not a usable ONNX model") from None
    return read_info(session, file)


def read_info(session: ort.InferenceSession, file: ModelFile) -> ModelInfo:
    """Return what the description beside the file says, or else the exporter's metadata.

    Raises ModelError when something is missing, or is not so in the file.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    if file.description is not None:
        try:
            return _apply_description(file.description, session, file.sha256)
        except DescriptionError as error:
            raise ModelError(f"{file.path.with_suffix('.toml')}: {error}") from None
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise ModelError(
            f"the model has no metadata `{missing[0]}`: export it with `matte export`, or describe "
            f"it with `matte models add {file.path.name} --like NAME`"
        )
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [tensor.name for tensor in inputs] != [INPUT] or outputs[0].name != OUTPUT:
        raise ModelError("the model's tensors are not `input` and `output`")
    takes_pixels = metadata.get("input") == PIXELS
    channels = inputs[0].shape[-1 if takes_pixels else 1]
    if channels not in ((3,) if takes_pixels else (3, 4)):
        raise ModelError(f"the model's input has {channels} channels, not 3 or 4")
    kind = "tensor(uint8)" if takes_pixels else "tensor(float)"
    if inputs[0].type != kind:
        raise ModelError(f"the model's input is {inputs[0].type}, its metadata says {kind}")
    try:
        fields: dict[str, Any] = {name: metadata[name] for name in REQUIRED}
        del fields["sha256"]
        numbers = {name: float(metadata[name]) for name in ("mean", "std")}
        sizes: dict[str, Any] = {name: int(metadata[name]) for name in SIZES}
        if PHOTO_SIZES in metadata:
            sizes[PHOTO_SIZES] = tuple(int(part) for part in metadata[PHOTO_SIZES].split(","))
        said = parse_description(fields | numbers | sizes)
    except ValueError as error:
        raise ModelError(f"the model's metadata cannot be read: {error}") from None
    return ModelInfo(
        name=said.name,
        version=said.version,
        sha256=file.sha256,
        weights_sha256=metadata["sha256"],
        mean=said.mean,
        std=said.std,
        stride=said.stride,
        ref_size=said.ref_size,
        photo_ref_sizes=said.photo_ref_sizes,
        licence=said.licence,
        precision=said.precision,
        takes_trimap=channels == 4,
        takes_pixels=takes_pixels,
    )


def _apply_description(said: Description, session: ort.InferenceSession, sha256: str) -> ModelInfo:
    """Return the info of a described model; raises DescriptionError where the file differs."""
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    outputs = [tensor.name for tensor in session.get_outputs()]
    for field_name, names in (("states", said.states), ("constants", said.constants)):
        for name in names:
            if name not in inputs:
                raise DescriptionError(
                    f"{field_name}: there is no input `{name}`; inputs: {', '.join(inputs)}"
                )
    for name in said.states.values():
        if name not in outputs:
            raise DescriptionError(
                f"states: there is no output `{name}`; outputs: {', '.join(outputs)}"
            )
    images = [name for name in inputs if name not in {*said.states, *said.constants}]
    if len(images) != 1:
        raise DescriptionError(
            f"one input must be left for the picture, not {', '.join(images) or 'none'}; "
            "name the others as states or constants"
        )
    shape = inputs[images[0]].shape
    if len(shape) != 4 or shape[1] != 3 or inputs[images[0]].type != "tensor(float)":
        raise DescriptionError(
            f"the input `{images[0]}` is {inputs[images[0]].type} {shape}; served are float32 "
            "inputs of N x 3 x height x width"
        )
    fixed = tuple(side for side in shape[2:] if isinstance(side, int))
    if fixed and fixed != said.size:
        raise DescriptionError(f"size: the input is {shape[2]} x {shape[3]}, not {said.size}")
    if isinstance(said.output, int):
        if not 0 <= said.output < len(outputs):
            raise DescriptionError(f"output: there are {len(outputs)}, counted from 0")
        output = outputs[said.output]
    elif said.output in outputs:
        output = said.output
    else:
        raise DescriptionError(f"output: there is no `{said.output}`; {', '.join(outputs)}")
    return ModelInfo(
        name=said.name,
        version=said.version,
        sha256=sha256,
        weights_sha256=sha256,
        mean=said.mean,
        std=said.std,
        stride=said.stride,
        ref_size=min(said.size) if said.size else said.ref_size,
        photo_ref_sizes=None if said.size else said.photo_ref_sizes,
        licence=said.licence,
        precision=said.precision,
        fixed_size=said.size,
        channel_order=said.channel_order,
        input=images[0],
        output=output,
        activation=said.activation,
        stretch=said.stretch,
        max_batch_size=shape[0] if isinstance(shape[0], int) else None,
        states=tuple(said.states.items()),
        constants=said.constants,
    )
