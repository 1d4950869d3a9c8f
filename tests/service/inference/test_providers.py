"""Which provider a network runs on: asked for, read back from onnxruntime, and never guessed."""

import onnxruntime as ort
import pytest

from service.inference import providers
from service.inference.engine import OnnxEngine
from service.inference.providers import (
    CPU,
    CUDA,
    DeviceError,
    count_threads,
    cuda_unavailable_reason,
    open_session,
)
from service.settings import Settings
from tests.onnx_files import write_model
from tests.providers import BEST, HAS_CUDA

needs_no_cuda = pytest.mark.skipif(HAS_CUDA, reason="CUDA is there")


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
