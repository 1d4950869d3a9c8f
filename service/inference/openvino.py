"""OpenVINO as a provider of onnxruntime: its options, and the precision it really computes in.

The provider refuses `precision=BF16` as an option of its own and onnxruntime then runs on its CPU
provider without an error; the same wish is accepted as `INFERENCE_PRECISION_HINT` in `load_config`.
Whether it is granted depends on the processor, so it is measured with a network of one operator.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort

OPENVINO = "OpenVINOExecutionProvider"
HINTS = {"fp32": "f32", "bf16": "bf16"}
# One 1 x 1 convolution that halves its input, (1, 2, 8, 8) float32.
PROBE = Path(__file__).with_name("precision_probe.onnx")
# One more than 1 in the last bit that a significand of 10 and of 13 bits has: bfloat16 has 8 bits
# and rounds both to 1, float16 has 11 and rounds the second.
PROBE_VALUES = (1 + 2**-9, 1 + 2**-12)


def has_fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether bfloat16 is faster than float32 here: only with AMX.

    With AVX512_BF16 alone OpenVINO's convolutions take 1.4 times as long as in float32
    (benchmarks/RESULTS.md).
    """
    try:
        return "amx_bf16" in cpuinfo.read_text().split()
    except OSError:
        return False


def make_options(precision: str, threads: int, streams: int = 1) -> dict[str, str]:
    """Return the provider's options for a precision ("fp32" or "bf16").

    `streams` runs at once share the threads.
    """
    config = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": str(streams),
        # Decoders and encoders share these cores: a pinned thread would wait for a busy one.
        "ENABLE_CPU_PINNING": "NO",
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": config})}


def measure_precision(probe: ort.InferenceSession) -> str:
    """Return what a session of `PROBE` computes in: "fp32", "fp16" or "bf16"."""
    values = np.array(PROBE_VALUES, np.float32).reshape(1, 2, 1, 1)
    (halves,) = probe.run(None, {"input": np.broadcast_to(values, (1, 2, 8, 8)).copy()})
    kept = halves[0, :, 0, 0] * 2 > 1
    return {(True, True): "fp32", (True, False): "fp16", (False, False): "bf16"}[
        bool(kept[0]), bool(kept[1])
    ]
