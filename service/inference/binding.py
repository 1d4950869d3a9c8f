"""Runs with buffers on the device that are kept and filled anew (ONNX Runtime's IO binding)."""

from collections import OrderedDict
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.models import NetworkInput

Floats = NDArray[np.float32]
# Sizes of input times sizes of batch that keep their buffers, the last used ones.
MAX_SHAPES = 16


class BoundRuns:
    """Runs a network of one input and one output, which is (N, 1, h, w) float32.

    For each shape the input and the output have a place on `device` ("cuda", "cpu") that all runs
    of that shape use: nothing is allocated in a run but the answer. From one thread at a time.
    """

    def __init__(
        self, session: ort.InferenceSession, input_name: str, output_name: str, device: str
    ) -> None:
        self._session = session
        self._names = input_name, output_name
        self._device = device
        self._bound: OrderedDict[tuple[int, ...], tuple[Any, Any, Any]] = OrderedDict()

    def run(self, batch: NetworkInput, size: tuple[int, int]) -> Floats:
        """Return the output for pictures of (height, width), an array of its own.

        Raises what the session raises.
        """
        if batch.shape not in self._bound:
            self._bound[batch.shape] = self._bind(batch, size)
            if len(self._bound) > MAX_SHAPES:
                self._bound.popitem(last=False)
        self._bound.move_to_end(batch.shape)
        binding, given, answer = self._bound[batch.shape]
        given.update_inplace(np.ascontiguousarray(batch))
        self._session.run_with_iobinding(binding)
        output: Floats = np.array(answer.numpy())  # on the CPU it would be the buffer itself
        return output

    def _bind(self, batch: NetworkInput, size: tuple[int, int]) -> tuple[Any, Any, Any]:
        make = ort.OrtValue.ortvalue_from_shape_and_type
        given = make(list(batch.shape), batch.dtype.type, self._device, 0)
        answer = make([batch.shape[0], 1, *size], np.float32, self._device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._names[0], given)
        binding.bind_ortvalue_output(self._names[1], answer)
        return binding, given, answer
