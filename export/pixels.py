"""Let a network take pictures as they are: bytes, not yet normalised."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NORMALISED = "normalised"
KIND = "uint8"  # the value of the metadata `input`


def take_pixels(path: Path, mean: float, std: float) -> None:
    """Have the file at `path` take uint8 N x H x W x 3, RGB, and normalise it by itself.

    `mean` and `std` are those of the metadata. A quarter of the bytes goes to a GPU, and the
    processor does not compute them. Only for networks of three channels.
    """
    model = onnx.load(path)
    graph = model.graph
    (given,) = graph.input
    name = given.name
    batch, _, height, width = given.type.tensor_type.shape.dim
    sizes = [side.dim_param or side.dim_value for side in (batch, height, width)]
    for node in graph.node:
        node.input[:] = [NORMALISED if one == name else one for one in node.input]
    constants = {"pixel_scale": 1 / (255 * std), "pixel_offset": mean / std}
    for constant, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), constant))
    first = [
        helper.make_node("Transpose", [name], ["pixel_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["pixel_planes"], ["pixel_values"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixel_values", "pixel_scale"], ["pixel_scaled"]),
        helper.make_node("Sub", ["pixel_scaled", "pixel_offset"], [NORMALISED]),
    ]
    nodes = [*first, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
    given.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, [*sizes, 3]))
    model.metadata_props.add(key="input", value=KIND)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path), save_as_external_data=False)
