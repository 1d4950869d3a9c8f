"""Half precision for CUDA: the weights and most of the arithmetic of an ONNX file in float16."""

import warnings
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# Statistics over a whole picture, and the last step to alpha, stay in float32. Resize has inputs
# that are no pictures.
KEPT = ["InstanceNormalization", "Resize", "Sigmoid"]


def halve(path: Path) -> None:
    """Turn the file at `path` into half precision; its input and output stay float32."""
    model = onnx.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights too small for float16: they become 0
        half = convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=True, op_block_list=KEPT
        )
    OnnxModel(half).topological_sort()  # the casts came last
    onnx.checker.check_model(half)
    onnx.save_model(half, str(path), save_as_external_data=False)
