"""The engine: an onnxruntime session behind a small interface."""

from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.binding import BoundRuns
from service.inference.description import Description
from service.inference.models import (
    ModelError,
    ModelFile,
    ModelInfo,
    NetworkInput,
    read_info,
    read_model,
)
from service.inference.preprocessing import choose_size
from service.inference.providers import (
    CUDA,
    ORT_ERRORS,
    DeviceError,
    OpenSession,
    Precision,
    count_threads,
    open_session,
)
from service.settings import Settings

WARM_UP_SIZE = 256  # what a first run costs beside its pixels, it costs at any size
WARM_MEGAPIXELS = 1.5
COMMON_SHAPES = ((1, 1), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16), (16, 9))  # height to width
HALF = 0.5
OUT_OF_MEMORY = "out-of-memory"
# How onnxruntime, CUDA and its libraries say so: there is no class of errors for it.
_NO_MEMORY = ("failed to allocate memory", "out of memory", "alloc_failed", "bad_alloc")
Floats = NDArray[np.float32]
# What a recurrent network hands from one frame to the next, in the order of `ModelInfo.states`;
# empty before the first frame, and always for other networks.
State = tuple[Floats, ...]


class InferenceError(RuntimeError):
    """The network failed or answered nonsense; `kind` is a metric label."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Engine(Protocol):
    """What turns pictures into mattes; called from one thread at a time, but for `open_beside`.

    `precision` is what the provider computes in.
    """

    info: ModelInfo
    provider: str
    precision: str
    note: str | None
    max_batch_size: int

    def run(self, batch: NetworkInput) -> Floats:
        """Return (N, h, w) float32 in [0, 1] for (N, C, h, w); raises InferenceError.

        Where `info.takes_pixels` the batch is (N, h, w, 3) uint8.
        """
        ...

    def run_next(self, batch: NetworkInput, state: State) -> tuple[Floats, State]:
        """Do what `run` does for a batch of one and a recurrent network, `state` after frame t."""
        ...

    def warm_up(self) -> None:
        """Run once, so that the first request does not pay for it."""
        ...

    def open_beside(self, lanes: int) -> "Engine | None":
        """Return the same network for so many runs at once, each on its share of the cores.

        None where runs side by side are no faster. That engine may be called from so many threads.
        Raises ModelError or DeviceError when it cannot be loaded again, InferenceError.
        """
        ...

    def recover(self) -> None:
        """After running out of memory: give it back, and take half as many pictures from now on.

        Raises ModelError or DeviceError when the network cannot be loaded again.
        """
        ...


class OnnxEngine:
    """A matting network in onnxruntime."""

    def __init__(
        self, settings: Settings, file: ModelFile | None = None, *, lanes: int = 1
    ) -> None:
        """Load a model, by default that of `model_path`, for `lanes` runs at once.

        Raises ModelError or DeviceError (see providers).
        """
        file = file or read_model(settings.model_path, settings.model_sha256)
        self._settings, self._lanes = settings, lanes
        self._path, self._sha256 = file.path, file.sha256
        opened = self._open(file)
        self.provider = opened.provider
        self.note = opened.note
        self.info = read_info(opened.session, file)
        self.precision = opened.precision or self.info.precision
        self._outputs = [self.info.output, *(name for _, name in self.info.states)]
        self._constants = {
            name: np.array(values, np.float32) for name, values in self.info.constants.items()
        }
        default_batch = 8 if opened.provider == CUDA else 1
        most = 1 if self.info.is_recurrent else self.info.max_batch_size or 64
        self.max_batch_size = min(settings.max_batch_size or default_batch, most)
        self._bind()

    def _open(self, file: ModelFile) -> OpenSession:
        settings = self._settings
        try:
            # Loading from bytes also makes onnxruntime refuse references to other files.
            opened = open_session(
                file.content,
                settings.device,
                threads=settings.threads,
                precision=choose_precision(settings.precision, file.description),
                lanes=self._lanes,
            )
        except ORT_ERRORS:
            raise ModelError(f"{file.path} is not a usable ONNX model") from None
        self._session: ort.InferenceSession | None = opened.session
        return opened

    def _bind(self) -> None:
        """Keep buffers on a GPU; on a CPU they would be one more copy."""
        self._bound: BoundRuns | None = None
        is_plain = not self.info.states and not self.info.constants
        if self.provider == CUDA and is_plain and self._session is not None:
            names = self.info.input, self.info.output
            self._bound = BoundRuns(self._session, *names, "cuda")

    def open_beside(self, lanes: int) -> "OnnxEngine | None":
        threads = self._settings.threads or count_threads()
        if self.provider == CUDA or self.info.is_recurrent or threads < lanes:
            return None
        engine = OnnxEngine(self._settings, read_model(self._path, self._sha256), lanes=lanes)
        if (engine.provider, engine.precision) != (self.provider, self.precision):
            raise DeviceError(f"{self.info.name} would run on {engine.provider}")
        engine.warm_up()
        return engine

    def recover(self) -> None:
        self.max_batch_size = max(1, self.max_batch_size // 2)
        # First: there would be no room for both. A session never gives back what it has taken.
        self._session = self._bound = None
        self._reopen()

    def _reopen(self) -> None:
        opened = self._open(read_model(self._path, self._sha256))
        if opened.provider != self.provider:
            self._session = None
            raise DeviceError(f"{self.info.name} would run on {opened.provider} from now on")
        self._bind()

    def run(self, batch: NetworkInput) -> Floats:
        return self.run_next(batch, ())[0]

    def run_next(self, batch: NetworkInput, state: State) -> tuple[Floats, State]:
        inputs: dict[str, Any] = {self.info.input: batch, **self._constants}
        if self.info.states:
            first = (np.zeros((1, 1, 1, 1), np.float32),) * len(self.info.states)
            names = (name for name, _ in self.info.states)
            inputs |= zip(names, state or first, strict=True)
        try:
            if self._session is None:  # it could not be loaded when memory had run out
                self._reopen()
            assert self._session is not None
            if self._bound is not None:
                output, after = self._bound.run(batch, self.info.read_size(batch)), []
            else:
                output, *after = self._session.run(self._outputs, inputs)
        except ORT_ERRORS as error:
            raise InferenceError(find_kind(str(error)), str(error)) from error
        except (DeviceError, ModelError) as error:
            raise InferenceError("device", str(error)) from error
        if output.shape != (batch.shape[0], 1, *self.info.read_size(batch)):
            raise InferenceError("shape", f"output {output.shape} for input {batch.shape}")
        if not all(np.isfinite(array).all() for array in (output, *after)):
            raise InferenceError("not-finite", "the matte has values that are not numbers")
        return read_alpha(output[:, 0], self.info), tuple(after)

    def warm_up(self) -> None:
        for size in list_warm_sizes(self.info, self.provider):
            for batch_size in {1, self.max_batch_size}:
                self.run(self.info.make_blank(batch_size, size))


def choose_precision(wanted: Precision, description: Description | None) -> Precision:
    """Return the precision to ask for: "auto" only where bfloat16 is known to do no harm.

    It is for files of `matte export` (their error grows by at most 0.5 %); of others' networks
    u2netp's grew by 9 %, RVM's by 3 % (benchmarks/RESULTS.md), so their description must allow it.
    """
    if wanted == "auto" and description is not None and not description.bfloat16:
        return "fp32"
    return wanted


def list_warm_sizes(info: ModelInfo, provider: str) -> list[tuple[int, int]]:
    """Return the sizes of input, (height, width), that are run before the first request.

    On a GPU the first run of each size looks for its algorithms: there all common shapes.
    """
    if info.fixed_size is not None:
        return [info.fixed_size]
    if provider != CUDA:
        return [(WARM_UP_SIZE, WARM_UP_SIZE)]
    sizes = {
        choose_size(
            120 * height,
            120 * width,
            ref_size=ref_size,
            stride=info.stride,
            max_megapixels=WARM_MEGAPIXELS,
        )
        for height, width in COMMON_SHAPES
        for ref_size in {info.ref_size, *(info.photo_ref_sizes or ())}
    }
    return sorted(sizes)


def find_kind(text: str) -> str:
    """Return what onnxruntime's error is about: memory, or anything else."""
    return OUT_OF_MEMORY if any(words in text.lower() for words in _NO_MEMORY) else "runtime"


def read_alpha(output: NDArray[np.floating[Any]], info: ModelInfo) -> Floats:
    """Return mattes (N, h, w) float32 in [0, 1] from what the network answered."""
    if info.activation == "sigmoid":
        with np.errstate(over="ignore"):
            output = 1 / (1 + np.exp(-output))
    if info.stretch is not None:
        quantiles = (info.stretch, 1 - info.stretch)
        low, high = np.quantile(output, quantiles, axis=(1, 2), keepdims=True)
        # A picture without anybody has no value near 1, and none near 0 if somebody fills it: what
        # is nowhere half sure must not be stretched to be sure.
        low, high = np.minimum(low, HALF), np.maximum(high, HALF)
        output = (output - low) / np.maximum(high - low, 1e-6)
    alpha: Floats = np.clip(output, 0.0, 1.0).astype(np.float32, copy=False)
    return alpha
