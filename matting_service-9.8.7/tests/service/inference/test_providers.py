"""Which provider a network runs on: asked for, read back from onnxruntime, and never guessed."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.inference import openvino, providers
from service.inference.engine import OnnxEngine
from service.inference.openvino import OPENVINO, PROBE, has_fast_bf16, measure_precision
from service.inference.providers import (
    CPU,
    CUDA,
    DeviceError,
    count_threads,
    cuda_unavailable_reason,
    open_session,
)
from service.settings import DEFAULT_MODEL, Settings
from tests.onnx_files import METADATA, write_model
from tests.providers import BEST, HAS_CUDA, HAS_OPENVINO

needs_no_cuda = pytest.mark.skipif(HAS_CUDA, reason="CUDA is there")
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="onnxruntime without OpenVINO")


def load(path, **settings) -> OnnxEngine:
    return OnnxEngine(Settings(**{"model_path": path, "device": "cpu"} | settings))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "tiny.onnx")


@needs_no_cuda
def test_cuda_without_cuda_is_refused_with_what_to_do(model):
    with pytest.raises(DeviceError) as caught:
        load(model, device="cuda")
    text = str(caught.value)
    assert "CUDA" in text and "MATTING_DEVICE=auto" in text and "[gpu]" in text


@needs_no_cuda
def test_auto_takes_the_best_there_is_and_says_why_not_better(model):
    found = load(model, device="auto")
    assert found.provider == BEST and "no CUDA" in found.note
    assert ("no OpenVINO" in found.note) == (BEST == CPU)


def test_listed_cuda_provider_is_not_believed_without_a_driver(model, monkeypatch):
    """The GPU wheel lists CUDA on any machine."""

    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("service.inference.providers.ctypes.CDLL", no_library)
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        load(model, device="cuda")
    assert load(model, device="auto").provider == CPU


@pytest.mark.gpu
def test_auto_uses_cuda_where_it_is(model):
    if (reason := cuda_unavailable_reason()) is not None:
        pytest.skip(reason)
    found = load(model, device="auto")
    assert found.provider == CUDA and found.note is None and found.max_batch_size == 8


def test_openvino_without_its_build_is_refused_and_auto_goes_on(model, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    with pytest.raises(DeviceError, match=r"no OpenVINO.*\[openvino\].*MATTING_DEVICE=auto"):
        load(model, device="openvino")
    found = load(model, device="auto")
    assert found.provider == CPU and "no OpenVINO" in found.note


@pytest.mark.parametrize("device", ["cpu", "cuda", "auto"])
def test_bf16_without_openvino_is_refused(model, device):
    with pytest.raises(DeviceError, match="precision=bf16 needs OpenVINO"):
        load(model, device=device, precision="bf16")


def test_two_builds_of_onnxruntime_are_refused_with_the_way_out(model, monkeypatch):
    monkeypatch.setattr(providers, "version", lambda name: "1")
    with pytest.raises(DeviceError) as caught:
        load(model)
    assert "pip uninstall -y onnxruntime onnxruntime-openvino onnxruntime-gpu" in str(caught.value)


# What onnxruntime does instead of what it was asked for.


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
        lambda precision, threads: make_options(precision, threads) | {"precision": "BF16"},
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


@needs_openvino
def test_network_that_openvino_runs_in_part_is_refused_and_auto_goes_to_the_cpu(tmp_path):
    nodes = [
        helper.make_node("Conv", ["input", "ones"], ["sum"]),
        helper.make_node("Bernoulli", ["sum"], ["output"]),  # an operator that it lacks
    ]
    graph = helper.make_graph(
        nodes,
        "partly",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "ones")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, METADATA)
    path = tmp_path / "partly.onnx"
    onnx.save(model, path)
    with pytest.raises(DeviceError, match="leaves Conv to the CPU"):
        load(path, device="openvino")
    found = load(path, device="auto")
    assert found.provider == CPU and "leaves Conv" in found.note


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


@pytest.mark.parametrize(
    "text, cores", [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), ("oops", 4)]
)
def test_threads_follow_affinity_and_quota(tmp_path, monkeypatch, text, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)))
    (tmp_path / "cpu.max").write_text(text)
    assert count_threads(tmp_path / "cpu.max") == cores
    assert count_threads(tmp_path / "absent") == 4


def test_session_is_told_the_threads(model):
    opened = open_session(model.read_bytes(), "cpu", threads=3)
    assert opened.session.get_session_options().intra_op_num_threads == 3
