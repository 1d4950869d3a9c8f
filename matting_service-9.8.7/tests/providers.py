"""The provider that tests meet: the fastest that this machine's build of onnxruntime has."""

import onnxruntime as ort

from service.inference.openvino import OPENVINO
from service.inference.providers import CPU, CUDA, cuda_unavailable_reason

HAS_CUDA = cuda_unavailable_reason() is None
HAS_OPENVINO = OPENVINO in ort.get_available_providers()
BEST = CUDA if HAS_CUDA else OPENVINO if HAS_OPENVINO else CPU
