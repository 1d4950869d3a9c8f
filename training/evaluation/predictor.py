"""One network to measure, a checkpoint or an ONNX file, fed as the service feeds it.

The five functions on pictures are the service's own, said again because neither side may import
the other; a test compares them.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.network.checkpoint import CheckpointError, load_model

# Official wheels from 1.29 on report usage to their maker unless told not to before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

STRIDE = 32
DEFAULT_REF_SIZE = 512  # of a checkpoint, which does not say at what size it works best
MAX_MEGAPIXELS = 1.5  # the service's default for the network's input
MAX_ENLARGED = 4
# Alpha that is as good as 0 or 1, and where it is as the network says again.
FAINT, SETTLED = 2 / 255, 8 / 255
# Where two passes are joined: cells of the larger matte, the smaller one's share, gain, and alpha
# of the furthest logits.
CELL, SHARE, GAIN, LEAST = 16, 0.65, 1.15, 1e-4


class PredictorError(ValueError):
    """A network cannot be measured; the message is one line for the person who named it."""


class Predictor(Protocol):
    """A network that takes (N, C, h, w) float32 in [-1, 1] and gives (N, h, w) in [0, 1]."""

    path: Path
    ref_size: int
    photo_ref_sizes: tuple[int, ...]  # of two passes over photos, or of none
    in_channels: int
    runs_on: str  # runtime, device and threads, for people

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]: ...


class TorchPredictor:
    """A checkpoint."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        self.path = path
        try:
            self._model = load_model(path)
        except CheckpointError as error:
            raise PredictorError(str(error)) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise PredictorError("device cuda: torch sees no CUDA device")
        torch.set_num_threads(threads)
        self._model.to(device)
        self.ref_size = DEFAULT_REF_SIZE
        self.photo_ref_sizes: tuple[int, ...] = ()
        self.in_channels: int = self._model.architecture["in_channels"]
        self.runs_on = describe("torch", device, threads)
        self._device = device

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            image = torch.from_numpy(batch).to(self._device)
            matte = self._model(image, inference=True)[2]
        return matte[:, 0].cpu().numpy()


class OnnxPredictor:
    """An ONNX file that the exporter wrote."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        self.path = path
        self._session = open_session(path, device, threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [tensor.name for tensor in inputs] != ["input"] or outputs[0].name != "output":
            raise PredictorError(f"{path}: its tensors are not `input` and `output`")
        wanted = {"mean": "0.5", "std": "0.5", "stride": str(STRIDE)}
        for key, value in wanted.items():
            if metadata.get(key, value) != value:
                raise PredictorError(f"{path}: {key} is {metadata[key]}, expected {value}")
        ref_size = metadata.get("ref_size", str(DEFAULT_REF_SIZE))
        if not ref_size.isdecimal() or int(ref_size) == 0:
            raise PredictorError(f"{path}: ref_size is {ref_size}")
        self.ref_size = int(ref_size)
        sizes = metadata.get("photo_ref_sizes")
        parts = sizes.split(",") if sizes is not None else []
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise PredictorError(f"{path}: photo_ref_sizes is {sizes}")
        self.photo_ref_sizes: tuple[int, ...] = tuple(map(int, parts))
        self.in_channels: int = inputs[0].shape[1]
        self.runs_on = describe("onnxruntime", device, threads)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = self._session.run(["output"], {"input": batch})[0]
        except find_ort_errors() as error:
            raise PredictorError(f"{self.path}: refuses {batch.shape}: {error}") from error
        return np.clip(output[:, 0], 0, 1)


@dataclass(frozen=True)
class Placement:
    """Where to run: `cpu` or `cuda`, and with how many threads (0: as many as there are cores)."""

    device: str = "cpu"
    threads: int = 0


def open_predictor(path: Path, placement: Placement = Placement()) -> Predictor:
    """Return the network of a file; raises PredictorError.

    `.onnx` goes to onnxruntime, any other file is a checkpoint and goes to torch.
    """
    threads = placement.threads or len(os.sched_getaffinity(0))
    kind = OnnxPredictor if path.suffix == ".onnx" else TorchPredictor
    return kind(path, placement.device, threads)


def open_session(path: Path, device: str, threads: int) -> Any:
    """Return an onnxruntime session that really runs on the device; raises PredictorError."""
    import onnxruntime  # here, so that a checkpoint can be measured without it

    try:
        content = path.read_bytes()
    except OSError as error:
        raise PredictorError(f"{path}: {error.strerror or error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False  # with many input sizes it only keeps memory
    options.log_severity_level = 3
    # As in the service, whose speed is meant; threads that spin are faster on an idle machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise PredictorError("device cuda: this onnxruntime is the CPU build")
    if device == "cuda":
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[provider])
    except find_ort_errors() as error:
        raise PredictorError(f"{path}: not a usable ONNX model") from error
    if session.get_providers()[0] != provider:
        raise PredictorError("device cuda: onnxruntime could not load its CUDA provider")
    return session


def find_ort_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises; its classes have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = "EPFail Fail InvalidArgument InvalidGraph InvalidProtobuf NotImplemented"
    return (state.RuntimeException, *(getattr(state, name) for name in names.split()))


def describe(runtime: str, device: str, threads: int) -> str:
    """Return `onnxruntime, CPU, 2 threads` or `torch, CUDA`."""
    if device == "cuda":
        return f"{runtime}, CUDA"
    return f"{runtime}, CPU, {threads} thread{'s' if threads > 1 else ''}"


def choose_size(height: int, width: int, ref_size: int) -> tuple[int, int]:
    """Return the network's (height, width) for a picture: multiples of 32, both at least 32.

    The shorter side becomes `ref_size`; pictures that are very long are shrunk further, and thin
    ones are not enlarged beyond MAX_ENLARGED times `ref_size`.
    """
    scale = ref_size / min(height, width)
    if scale > 1:
        scale = max(1.0, min(scale, MAX_ENLARGED * ref_size / max(height, width)))
    area = height * scale * width * scale
    if area > MAX_MEGAPIXELS * 1e6:
        scale *= (MAX_MEGAPIXELS * 1e6 / area) ** 0.5

    def fit(side: int, room: float) -> int:
        return max(STRIDE, STRIDE * round(min(side * scale, room) / STRIDE))

    short = fit(min(height, width), np.inf)
    longest = STRIDE * int(MAX_MEGAPIXELS * 1e6 / short / STRIDE)
    long = min(fit(max(height, width), longest), max(longest, STRIDE))
    return (short, long) if height <= width else (long, short)


def make_tensor(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (C, h, w) float32 in [-1, 1] for an (H, W, C) uint8 picture.

    The picture is brought to `size`, (h, w), by linear interpolation; a side that is more than
    twice too long is halved before, by averages of two.
    """
    height, width = size
    while image.shape[0] > 2 * height or image.shape[1] > 2 * width:
        sides = (
            (side + 1) // 2 if side > 2 * wanted else side
            for side, wanted in zip(image.shape[1::-1], (width, height), strict=True)
        )
        image = cv2.resize(image, tuple(sides), interpolation=cv2.INTER_LINEAR)
    if image.shape[:2] != size:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(127.5) - 1


def join_passes(semantic: NDArray[np.float32], detail: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a matte (H, W): the parts that `semantic` (h, w) sees, the outline of `detail`."""
    height, width = detail.shape
    fine, coarse = (
        np.log(inside / (1 - inside))
        for inside in (np.clip(one, LEAST, 1 - LEAST) for one in (detail, semantic))
    )
    cells = max(1, width // CELL), max(1, height // CELL)
    difference = cv2.resize(coarse, (width, height)) - fine
    moved = cv2.resize(difference, cells, interpolation=cv2.INTER_AREA)
    joined = GAIN * (fine + SHARE * cv2.resize(moved, (width, height)))
    return np.float32(1 / (1 + np.exp(-joined)))


def resize_alpha(alpha: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return the matte at (height, width): linear where it grows, area where it shrinks."""
    if alpha.shape == (height, width):
        return alpha
    grows = height * width > alpha.shape[0] * alpha.shape[1]
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.minimum(cv2.resize(alpha, (width, height), interpolation=method), 1)


def settle_ends(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return alpha that is 0 under FAINT and 1 over 1 - FAINT, without a step: stills are so."""
    slope = np.float32(SETTLED / (SETTLED - FAINT))
    shift = np.float32(FAINT) * slope
    low = alpha * slope - shift
    high = low + (1 - slope + 2 * shift)
    return np.clip(np.maximum(np.minimum(alpha, low), high), 0, 1)
