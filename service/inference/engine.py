"""The engine: an onnxruntime session behind a small interface."""

from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
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

from service.inference.models import ModelError, ModelInfo, read_info, read_model
from service.inference.providers import CUDA, open_session
from service.settings import Settings

WARM_UP_SIZE = 512
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


class InferenceError(RuntimeError):
    """The network failed or answered nonsense; `kind` is a metric label."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Engine(Protocol):
    """What turns pictures into mattes; called from one thread at a time."""

    info: ModelInfo
    provider: str
    note: str | None
    max_batch_size: int

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, h, w) float32 in [0, 1] for (N, C, h, w); raises InferenceError."""
        ...

    def warm_up(self) -> None:
        """Run once, so that the first request does not pay for it."""
        ...


class OnnxEngine:
    """MODNet in onnxruntime."""

    def __init__(self, settings: Settings) -> None:
        """Load the model; raises ModelError or DeviceError (see providers)."""
        file = read_model(settings.model_path, settings.model_sha256)
        try:
            # Loading from bytes also makes onnxruntime refuse references to other files.
            opened = open_session(file.content, settings.device, threads=settings.threads)
        except ORT_ERRORS:
            raise ModelError(f"{settings.model_path} is not a usable ONNX model") from None
        self._session: ort.InferenceSession = opened.session
        self.provider = opened.provider
        self.note = opened.note
        self.info = read_info(opened.session, file)
        default_batch = 8 if opened.provider == CUDA else 1
        self.max_batch_size = settings.max_batch_size or default_batch

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = self._session.run(["output"], {"input": batch})[0]
        except ORT_ERRORS as error:
            raise InferenceError("runtime", str(error)) from error
        if output.shape != (batch.shape[0], 1, *batch.shape[2:]):
            raise InferenceError("shape", f"output {output.shape} for input {batch.shape}")
        if not np.isfinite(output).all():
            raise InferenceError("not-finite", "the matte has values that are not numbers")
        alpha: NDArray[np.float32] = np.clip(output[:, 0], 0.0, 1.0)
        return alpha

    def warm_up(self) -> None:
        for batch_size in {1, self.max_batch_size}:
            side = WARM_UP_SIZE
            self.run(np.zeros((batch_size, self.info.channels, side, side), np.float32))
