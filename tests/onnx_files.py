"""Makers of tiny ONNX files that look like the exporter's, and of some that lie."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

METADATA = {
    "name": "tiny",
    "version": "7",
    "sha256": "a" * 64,
    "mean": "0.5",
    "std": "0.5",
    "stride": "32",
    "ref_size": "64",
    "licence": "Apache-2.0",
    "precision": "fp32",
}

# What the network does with the mean of the three colours, x in [-1, 1].
NODES = {
    "plain": [helper.make_node("HardSigmoid", ["x"], ["output"], alpha=0.5, beta=0.5)],
    "not-finite": [helper.make_node("Log", ["minus"], ["output"])],
    "out-of-range": [helper.make_node("Mul", ["x", "hundred"], ["output"])],
    "smaller": [helper.make_node("MaxPool", ["x"], ["output"], kernel_shape=[2, 2])],
}


def write_model(
    path: Path,
    kind: str = "plain",
    *,
    metadata: dict[str, str] = METADATA,
    input_name: str = "input",
    output_name: str = "output",
    channels: int = 3,
) -> Path:
    """Write a one-operation network with the tensors and the metadata of the real one."""
    nodes = [
        helper.make_node("ReduceMean", [input_name, "axes"], ["x"], keepdims=1),
        helper.make_node("Sub", ["x", "hundred"], ["minus"]),
        *NODES[kind],
        helper.make_node("Identity", ["output"], [output_name]),
    ]
    if output_name == "output":
        nodes.pop()
    shape = ["n", channels, "h", "w"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["n", 1, "a", "b"])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("hundred", TensorProto.FLOAT, [], [100.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path
