"""OpenVINO as a provider: what onnxruntime does instead of what it was asked for is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.inference import openvino
from service.inference.engine import OnnxEngine
from service.inference.models import ModelError
from service.inference.openvino import OPENVINO, PROBE, has_fast_bf16, measure_precision
from service.inference.providers import (
    CPU,
    CUDA,
    DeviceError,
)
from service.settings import DEFAULT_MODEL, Settings
from tests.helpers import ROOT, make_environ
from tests.onnx_files import METADATA, write_model
from tests.providers import HAS_CUDA, HAS_OPENVINO

needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="onnxruntime without OpenVINO")


def load(path, **settings) -> OnnxEngine:
    return OnnxEngine(Settings(**{"model_path": path, "device": "cpu"} | settings))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "tiny.onnx")


@needs_openvino
def test_precision_is_measured_and_not_believed():
    for precision in ("fp32", "bf16"):
        options = openvino.make_options(precision, 1)
        probe = ort.InferenceSession(PROBE.read_bytes(), providers=[(OPENVINO, options)])
        on_cpu = ort.InferenceSession(PROBE.read_bytes(), providers=[CPU])
        measured = measure_precision(probe)
        assert measured in ("fp32", precision)  # not every processor has bfloat16
        assert measure_precision(on_cpu) == "fp32"


def test_probe_tells_the_precisions_apart():
    class Rounding:
        """A session that keeps so many bits of each value."""

        def __init__(self, bits):
            self.bits = bits

        def run(self, outputs, inputs):
            step = 2.0 ** (1 - self.bits)
            return [np.round(inputs["input"] / step) * step / 2]

    found = [measure_precision(Rounding(bits)) for bits in (24, 11, 8)]
    assert found == ["fp32", "fp16", "bf16"]


@needs_openvino
def test_option_that_openvino_refuses_does_not_end_in_a_session_of_the_cpu(model, monkeypatch):
    """`precision=BF16` is such a one: onnxruntime then runs its CPU provider without an error."""
    make_options = openvino.make_options
    monkeypatch.setattr(
        openvino,
        "make_options",
        lambda *args: make_options(*args) | {"precision": "BF16"},
    )
    with pytest.raises(DeviceError, match="could not load the provider"):
        load(model, device="openvino")
    assert load(model, device="auto").provider == CPU


@needs_openvino
def test_precision_that_openvino_does_not_grant_is_refused(model, monkeypatch):
    """It runs in float32 where the processor has no bfloat16, and for a hint it does not know."""
    monkeypatch.setitem(openvino.HINTS, "bf16", "f32")
    with pytest.raises(DeviceError, match="precision=bf16, but OpenVINO computes in fp32"):
        load(model, device="openvino", precision="bf16")


def write_graph(path: Path, nodes: list[onnx.NodeProto]) -> Path:
    """Write a network from `input` to `output`, with weights of `ones` and a `zero`."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [
            numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "ones"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, METADATA)
    onnx.save(model, path)
    return path


@needs_openvino
def test_network_that_openvino_runs_in_part_is_refused_and_auto_goes_to_the_cpu(tmp_path):
    nodes = [
        helper.make_node("Conv", ["input", "ones"], ["sum"]),
        helper.make_node("Bernoulli", ["sum"], ["output"]),  # an operator that it lacks
    ]
    path = write_graph(tmp_path / "partly.onnx", nodes)
    with pytest.raises(DeviceError, match="leaves Conv to the CPU"):
        load(path, device="openvino")
    found = load(path, device="auto")
    assert found.provider == CPU and "leaves Conv" in found.note


@needs_openvino
def test_network_that_openvino_cannot_load_is_not_called_unusable(tmp_path):
    """An operator that it lacks inside a branch: its compiler fails, onnxruntime's own does not."""

    def branch(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Conv", ["input", "ones"], [f"{name}_sum"]),
            helper.make_node("Bernoulli", [f"{name}_sum"], [name]),
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        )

    nodes = [
        helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["is_bright"]),
        helper.make_node(
            "If", ["is_bright"], ["output"], then_branch=branch("a"), else_branch=branch("b")
        ),
    ]
    path = write_graph(tmp_path / "branches.onnx", nodes)
    with pytest.raises(DeviceError, match="no OpenVINO: it cannot load this network"):
        load(path, device="openvino")
    found = load(path, device="auto")
    assert found.provider == CPU and "it cannot load this network" in found.note
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a usable ONNX model"):
        load(tmp_path / "broken.onnx", device="openvino")


ASK = """
from service.inference.engine import OnnxEngine
from service.settings import Settings
print(OnnxEngine(Settings()).provider)
try:
    print(OnnxEngine(Settings(device="openvino")).provider)
except Exception as error:
    print(type(error).__name__, error)
"""


@needs_openvino
def test_missing_library_of_openvino_is_told(tmp_path):
    """The real package without the one library, in a process of its own."""
    package = Path(ort.__file__).parent
    try:
        shutil.copytree(package, tmp_path / "onnxruntime", copy_function=os.link)
    except OSError as error:
        pytest.skip(f"the package cannot be linked to: {error}")
    (tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_openvino.so").unlink()
    environ = make_environ() | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=environ, capture_output=True, text=True, timeout=250
    )
    assert asked.returncode == 0, asked.stderr
    first, second = asked.stdout.splitlines()[-2:]
    assert first == (CUDA if HAS_CUDA else CPU)
    assert second.startswith("DeviceError no OpenVINO: onnxruntime could not load the provider")


@needs_openvino
def test_openvino_in_fp32_gives_the_mattes_of_the_cpu(portrait):
    from service.inference.preprocessing import fit_to_network

    here, there = (load(DEFAULT_MODEL, device=name) for name in ("cpu", "openvino"))
    assert (there.provider, there.info) == (OPENVINO, here.info)
    tensor = fit_to_network(portrait, here.info, None, 1.5)[np.newaxis]
    if there.precision == "fp32":
        np.testing.assert_allclose(there.run(tensor), here.run(tensor), atol=1e-3)
    else:
        assert np.abs(there.run(tensor) - here.run(tensor)).mean() < 5e-3


@needs_openvino
@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_answers_equal_input_with_equal_bits(portrait, threads):
    """Whatever came before it: what chunks and repeats of a clip rest on."""
    from service.inference.preprocessing import fit_to_network

    engine = load(DEFAULT_MODEL, device="openvino", threads=threads)
    tensor = fit_to_network(portrait, engine.info, 128, 1.5)[np.newaxis]
    alone = engine.run(tensor)
    engine.run(np.zeros((2, 3, 64, 96), np.float32))  # another size in between
    assert np.array_equal(engine.run(tensor), alone)


def test_bf16_is_the_default_only_with_amx(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    for flags, fast in (("fma avx512_bf16 avx2", False), ("avx512_bf16 amx_bf16 amx_tile", True)):
        cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
        assert has_fast_bf16(cpuinfo) is fast
    assert not has_fast_bf16(tmp_path / "absent")


def test_probe_file_is_the_one_convolution_that_it_says():
    half = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1) / 2
    shape = [1, 2, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "half"], ["output"])],
        "precision_probe",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(half, "half")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert onnx.load(PROBE) == model
