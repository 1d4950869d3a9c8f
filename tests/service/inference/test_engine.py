import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.inference.engine import InferenceError, OnnxEngine
from service.inference.models import REQUIRED, ModelError
from service.inference.preprocessing import make_tensor
from service.inference.providers import CUDA
from service.settings import DEFAULT_MODEL, Settings
from tests.onnx_files import METADATA, write_model
from tests.providers import BEST

BATCH = np.zeros((2, 3, 32, 64), np.float32)


def load(path, **settings) -> OnnxEngine:
    return OnnxEngine(Settings(**{"model_path": path, "device": "cpu"} | settings))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "tiny.onnx")


def test_real_network_finds_the_person(engine, portrait):
    batch = make_tensor(portrait, (512, 512), mean=0.5, std=0.5)[np.newaxis]
    alpha = engine.run(batch)[0]
    assert alpha.shape == (512, 512) and alpha.dtype == np.float32
    assert alpha[80:170, 180:260].mean() > 0.9 and alpha[0:60, 80:150].mean() < 0.1


def test_batch_gives_the_mattes_of_its_pictures(engine, portrait):
    size = (256, 256)
    pictures = [portrait, portrait[:, ::-1], portrait[:, 200:]]
    batch = np.stack([make_tensor(picture, size, mean=0.5, std=0.5) for picture in pictures])
    together = engine.run(batch)
    for index in range(len(batch)):
        alone = engine.run(batch[index : index + 1])[0]
        np.testing.assert_allclose(together[index], alone, atol=1e-4)


def test_info_is_that_of_the_file_and_its_report(engine):
    report = json.loads(DEFAULT_MODEL.with_suffix(".json").read_text())
    assert engine.info.sha256 == report["onnx_sha256"]
    assert engine.info.weights_sha256 == report["checkpoint_sha256"]
    assert engine.info.name == report["model"] and engine.info.precision == report["precision"]
    assert engine.info.stride == 32 and engine.info.ref_size % 32 == 0
    assert engine.provider == BEST and engine.max_batch_size == (8 if BEST == CUDA else 1)


def test_metadata_is_read_from_the_file(model):
    info = load(model).info
    assert (info.name, info.version, info.licence) == ("tiny", "7", "Apache-2.0")
    assert (info.mean, info.std, info.stride, info.ref_size) == (0.5, 0.5, 32, 64)
    assert info.weights_sha256 == "a" * 64
    assert info.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()


def test_batch_size_of_the_settings_wins(model):
    assert load(model, max_batch_size=5).max_batch_size == 5


@pytest.mark.parametrize("kind", ["not-finite", "smaller"])
def test_nonsense_of_the_network_is_an_error_and_never_a_matte(tmp_path, kind):
    tiny = load(write_model(tmp_path / "tiny.onnx", kind))
    with pytest.raises(InferenceError) as caught:
        tiny.run(BATCH)
    assert caught.value.kind == {"not-finite": "not-finite", "smaller": "shape"}[kind]


def test_values_out_of_range_are_clipped(tmp_path):
    tiny = load(write_model(tmp_path / "tiny.onnx", "out-of-range"))
    batch = np.stack([np.full((3, 32, 64), value, np.float32) for value in (-1, 1)])
    alphas = tiny.run(batch)
    assert (alphas[0] == 0).all() and (alphas[1] == 1).all()


def test_input_that_the_network_refuses_is_an_inference_error(model):
    with pytest.raises(InferenceError) as caught:
        load(model).run(np.zeros((1, 4, 32, 32), np.float32))
    assert caught.value.kind == "runtime"


# The file.


def assert_refused(path, *words: str, **settings) -> None:
    with pytest.raises(ModelError) as caught:
        load(path, **settings)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_missing_file_is_refused(tmp_path):
    assert_refused(tmp_path / "gone.onnx", "gone.onnx", "No such file")


def test_folder_is_refused(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    assert_refused(tmp_path / "folder.onnx", "folder.onnx")


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt", ""])
def test_checkpoint_is_refused_with_the_command_that_converts_it(tmp_path, suffix):
    path = tmp_path / f"modnet{suffix}"
    path.write_bytes(b"\x80\x02}q\x00.")
    assert_refused(path, "not an ONNX file", "python -m export", "modnet.onnx")


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_truncated_file_is_refused(tmp_path, size):
    path = tmp_path / "cut.onnx"
    path.write_bytes(DEFAULT_MODEL.read_bytes()[:size])
    assert_refused(path, "cut.onnx")


def test_wrong_hash_in_the_settings_is_refused(model):
    assert_refused(model, "SHA-256", "b" * 64, model_sha256="b" * 64)


def test_right_hash_in_the_settings_is_accepted(model):
    load(model, model_sha256=hashlib.sha256(model.read_bytes()).hexdigest())


def test_one_flipped_bit_is_refused_by_the_report(tmp_path):
    path = tmp_path / DEFAULT_MODEL.name
    content = bytearray(DEFAULT_MODEL.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    report = Path(shutil.copy(DEFAULT_MODEL.with_suffix(".json"), tmp_path))
    assert_refused(path, "SHA-256", json.loads(report.read_text())["onnx_sha256"])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"onnx_sha256": 5}', "\x00"])
def test_unreadable_report_is_refused(model, text):
    """A report that was there to protect the file must not stop doing so in silence."""
    model.with_suffix(".json").write_text(text)
    assert_refused(model, "tiny.json")


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_metadata_is_refused(tmp_path, key):
    metadata = {name: value for name, value in METADATA.items() if name != key}
    assert_refused(write_model(tmp_path / "tiny.onnx", metadata=metadata), f"`{key}`")


@pytest.mark.parametrize(
    "key, value",
    [("mean", "half"), ("stride", "32.5"), ("ref_size", ""), ("photo_ref_sizes", "384,256")],
)
def test_metadata_that_is_no_number_is_refused(tmp_path, key, value):
    path = write_model(tmp_path / "tiny.onnx", metadata=METADATA | {key: value})
    assert_refused(path, "metadata")


@pytest.mark.parametrize("sizes", [(256, 384), None])
def test_sizes_of_two_passes_may_be_left_out(tmp_path, sizes):
    metadata = METADATA if sizes is None else METADATA | {"photo_ref_sizes": "256,384"}
    path = write_model(tmp_path / "tiny.onnx", metadata=metadata)
    assert load(path).info.photo_ref_sizes == sizes


@pytest.mark.parametrize("names", [{"input_name": "image"}, {"output_name": "matte"}])
def test_other_tensor_names_are_refused(tmp_path, names):
    assert_refused(write_model(tmp_path / "tiny.onnx", **names), "`input`", "`output`")


def test_reference_to_another_file_is_refused(tmp_path):
    """External data could name any file of the machine."""
    (tmp_path / "weights.bin").write_bytes(bytes(4))
    path = write_model(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "hundred")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    path.write_bytes(model.SerializeToString())
    assert_refused(path, "tiny.onnx")


def test_operator_that_does_not_exist_is_refused(tmp_path):
    node = helper.make_node("Nonsense", ["input"], ["output"])
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])
    out = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 1, "h", "w"])
    model = helper.make_model(helper.make_graph([node], "g", [value], [out]), ir_version=10)
    helper.set_model_props(model, METADATA)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    assert_refused(path, "tiny.onnx")


def test_telemetry_is_off_before_onnxruntime_is_imported():
    import os

    import service

    assert service.__version__ and os.environ["ORT_DISABLE_TELEMETRY"] == "1"
