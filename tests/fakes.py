"""Stand-ins for the network where faults or timing are the subject of a test."""

import threading
import time
from collections.abc import Callable

import numpy as np

from service.inference.engine import InferenceError
from service.inference.models import ModelInfo
from service.inference.providers import CPU

FAKE_INFO = ModelInfo(
    name="fake",
    version="1",
    sha256="0" * 64,
    weights_sha256="1" * 64,
    mean=0.5,
    std=0.5,
    stride=32,
    ref_size=64,
    licence="none",
    precision="fp32",
)


def opaque(batch: np.ndarray) -> np.ndarray:
    """Return the matte that calls every pixel foreground."""
    return np.ones((batch.shape[0], *batch.shape[2:]), np.float32)


class FakeEngine:
    """An engine that answers with `answer(batch)` and remembers what it was given.

    `batches` holds one list a run: the first value of every picture in it, so that a test that
    fills its pictures with numbers can read the order.
    """

    def __init__(
        self,
        answer: Callable[[np.ndarray], np.ndarray] = opaque,
        *,
        max_batch_size: int = 1,
        note: str | None = None,
    ) -> None:
        self.info = FAKE_INFO
        self.provider = CPU
        self.precision = "fp32"
        self.note = note
        self.max_batch_size = max_batch_size
        self.answer = answer
        self.batches: list[list[float]] = []
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape)
        self.batches.append([float(picture[0, 0, 0]) for picture in batch])
        return self.answer(batch)

    def warm_up(self) -> None:
        pass

    def open_beside(self, lanes: int) -> None:
        """One run at a time: tests read their order."""

    def recover(self) -> None:
        self.max_batch_size = max(1, self.max_batch_size // 2)


class BlockedEngine(FakeEngine):
    """An engine whose runs wait for `release`; `entered` is set when one has begun."""

    def __init__(self, *, max_batch_size: int = 1) -> None:
        super().__init__(max_batch_size=max_batch_size)
        self.entered = threading.Event()
        self.release = threading.Event()

    def run(self, batch: np.ndarray) -> np.ndarray:
        alphas = super().run(batch)
        self.entered.set()
        assert self.release.wait(60), "the test never released the engine"
        return alphas


class BrokenEngine(FakeEngine):
    """An engine that fails while `broken` is true."""

    def __init__(self, error: Exception | None = None, *, max_batch_size: int = 1) -> None:
        super().__init__(max_batch_size=max_batch_size)
        self.error = error or InferenceError("runtime", "a secret of the runtime")
        self.broken = True

    def run(self, batch: np.ndarray) -> np.ndarray:
        alphas = super().run(batch)
        if self.broken:
            raise self.error
        return alphas


class SlowEngine(FakeEngine):
    """An engine that takes a while for each frame, so that a job can be met while it runs."""

    def run(self, batch):
        time.sleep(0.03)
        return super().run(batch)
