"""The network as the frames of one clip or session use it, from any thread."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.inference.batcher import Matte
from service.inference.preprocessing import prepare_input
from service.media.video.types import Image
from service.runtime import Runtime

FRAME_TIMEOUT_S = 60.0

Tensor = NDArray[np.float32]


class Network(Protocol):
    """What a segment needs of the network: `ahead` frames in the queue at once are useful."""

    @property
    def ahead(self) -> int: ...

    def prepare(self, image: Image) -> tuple[Tensor, Image]:
        """Return the input of a frame and the picture, (h, w, 3) uint8, that it was made of."""

    def infer(self, tensor: Tensor) -> Future[Matte]:
        """Queue an input."""


class FrameNetwork:
    """The shared network at one `ref_size`; None: the model's own. Made on the event loop."""

    def __init__(self, runtime: Runtime, ref_size: int | None) -> None:
        self._runtime = runtime
        self._ref_size = ref_size
        self._loop = asyncio.get_running_loop()

    @property
    def ahead(self) -> int:
        return self._runtime.engine.max_batch_size + 1

    def prepare(self, image: Image) -> tuple[Tensor, Image]:
        """Return the input of a frame and the picture that it was made of; raises InvalidOption."""
        limit = self._runtime.settings.network_max_megapixels
        return prepare_input(image, self._runtime.engine.info, self._ref_size, limit)

    def infer(self, tensor: Tensor) -> Future[Matte]:
        """Queue an input from another thread than the loop's."""
        return asyncio.run_coroutine_threadsafe(self.matte(tensor), self._loop)

    def matte(self, tensor: Tensor) -> Coroutine[Any, Any, Matte]:
        """Queue an input on the event loop."""
        return self._runtime.batcher.infer(tensor, timeout_s=FRAME_TIMEOUT_S)
