import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.to_onnx import MatteOnly, Metadata
from export.verify import CASES, ORT_ERRORS, TOLERANCE, VerificationError, compare, verify
from tests.tiny_network import REF_SIZE, make_tiny_model

SHAPES = [(32, 32), (64, 96), (160, 128), (96, 224)]


@pytest.fixture(scope="module")
def session(tiny_path):
    # From bytes, as the service loads it: a file with external data would fail here.
    return onnxruntime.InferenceSession(tiny_path.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def network():
    return MatteOnly(make_tiny_model())


def make_image(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def run_ort(session, image):
    return session.run(None, {"input": image.numpy()})[0]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_matte_equals_the_networks_at_any_size_and_batch(session, network, size, batch):
    image = make_image(batch, 3, *size)
    with torch.no_grad():
        expected = network(image)
    matte = run_ort(session, image)
    assert matte.dtype == np.float32 and matte.shape == (batch, 1, *size)
    assert 0 <= matte.min() < matte.max() <= 1
    np.testing.assert_allclose(matte, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(500, 512), (64, 72), (16, 16)])
def test_sizes_that_are_not_multiples_of_32_are_refused(tiny_path, size):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        tiny_path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    with pytest.raises(ORT_ERRORS):
        run_ort(session, make_image(1, 3, *size))


def test_tensor_names_and_symbolic_shapes(session):
    (image,), matte = session.get_inputs(), session.get_outputs()[0]
    assert (image.name, image.type) == ("input", "tensor(float)")
    assert image.shape == ["batch", 3, "32*h", "32*w"]
    assert (matte.name, matte.type) == ("output", "tensor(float)")
    assert matte.shape == ["batch", 1, "32*h", "32*w"]


def test_metadata_is_complete(session, tiny_path):
    checkpoint = tiny_path.with_suffix(".pt").read_bytes()
    assert session.get_modelmeta().custom_metadata_map == {
        "name": "tiny",
        "version": "1",
        "sha256": hashlib.sha256(checkpoint).hexdigest(),
        "mean": "0.5",
        "std": "0.5",
        "stride": "32",
        "ref_size": str(REF_SIZE),
        "licence": "Apache-2.0",
        "precision": "fp32",
    }


def test_file_is_checked_opset_18_and_without_batch_norms(tiny_path):
    model = onnx.load(str(tiny_path), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("InstanceNormalization") == 16
    assert not [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]


def test_file_tells_nothing_about_the_machine(tiny_path):
    content = tiny_path.read_bytes()
    for trace in (b".py", b"stack_trace", b"site-packages"):
        assert trace not in content


def test_report_describes_the_file(tiny_path):
    report = json.loads(tiny_path.with_suffix(".json").read_text())
    assert report["onnx_sha256"] == hashlib.sha256(tiny_path.read_bytes()).hexdigest()
    checkpoint = tiny_path.with_suffix(".pt").read_bytes()
    assert report["checkpoint_sha256"] == hashlib.sha256(checkpoint).hexdigest()
    assert (report["model"], report["version"], report["precision"]) == ("tiny", "1", "fp32")
    assert report["tolerance"] == TOLERANCE >= report["max_abs"] > report["mean_abs"] > 0
    assert [case["shape"] for case in report["cases"]] == [[n, 3, h, w] for n, h, w in CASES]
    assert len({tuple(case["shape"][2:]) for case in report["cases"]}) >= 4
    assert len({case["shape"][0] for case in report["cases"]}) >= 2
    assert {"python", "torch", "onnx", "onnxscript", "onnxruntime"} <= set(report["versions"])


def test_another_networks_file_fails_verification(tiny_path):
    metadata = Metadata(name="a", version="1", sha256="0", ref_size="512", licence="Apache-2.0")
    other = MatteOnly(make_tiny_model(seed=1))
    with pytest.raises(VerificationError, match="differs by"):
        verify(other, tiny_path, "a.pt", metadata, "a.onnx")


def test_broken_file_fails_verification(tiny_path, network):
    with pytest.raises(VerificationError, match="onnxruntime refuses"):
        compare(network, tiny_path.read_bytes()[:5000])
