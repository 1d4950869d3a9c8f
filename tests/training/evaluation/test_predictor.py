import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.inference import preprocessing
from service.inference.engine import OnnxEngine
from service.matting import cleanup, resize
from service.settings import Settings
from tests.helpers import post_image
from tests.onnx_files import METADATA, write_model
from tests.tiny_network import export_tiny
from training.evaluation import predictor
from training.evaluation.measure import predict_photo
from training.evaluation.predictor import Placement, PredictorError, open_predictor
from training.network.checkpoint import save_checkpoint
from training.network.modnet import MODNet

sides = st.integers(1, 5000)


@given(height=sides, width=sides, ref_size=st.sampled_from([64, 256, 320, 500, 512, 1024]))
def test_network_size_is_the_service_s(height, width, ref_size):
    expected = preprocessing.choose_size(
        height,
        width,
        ref_size=ref_size,
        stride=32,
        max_megapixels=Settings.model_fields["network_max_megapixels"].default,
    )
    assert predictor.choose_size(height, width, ref_size) == expected


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (16, 32), (128, 160)])
def test_pictures_are_resized_as_the_service_does(portrait, size):
    image = np.ascontiguousarray(portrait[100:164, 200:296])  # 64 x 96
    expected = preprocessing.make_tensor(image, size, mean=0.5, std=0.5)
    np.testing.assert_allclose(predictor.make_tensor(image, size), expected, atol=1e-6)
    alpha = np.random.default_rng(0).random(size, np.float32)
    np.testing.assert_array_equal(
        predictor.resize_alpha(alpha, 64, 96), resize.resize_alpha(alpha, 64, 96)
    )
    np.testing.assert_array_equal(predictor.settle_ends(alpha), cleanup.settle_ends(alpha))


def test_onnx_file_is_run(tmp_path):
    network = open_predictor(write_model(tmp_path / "a.onnx"), Placement(threads=1))
    assert (network.ref_size, network.in_channels) == (64, 3)
    assert network.runs_on == "onnxruntime, CPU, 1 thread"
    batch = np.stack([np.full((3, 32, 64), value, np.float32) for value in (-1, 0, 1)])
    expected = np.broadcast_to(np.float32([0, 0.5, 1])[:, None, None], (3, 32, 64))
    np.testing.assert_allclose(network.run(batch), expected)


def test_checkpoint_is_run(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, MODNet(in_channels=4, width=0.125, hr_channels=4))
    network = open_predictor(path, Placement(threads=1))
    assert (network.ref_size, network.in_channels) == (512, 4)
    matte = network.run(np.zeros((2, 4, 32, 64), np.float32))
    assert matte.shape == (2, 32, 64) and matte.dtype == np.float32
    assert 0 <= matte.min() and matte.max() <= 1


def test_both_kinds_agree(tmp_path):
    onnx = export_tiny(tmp_path / "tiny.onnx")
    exported, original = (
        open_predictor(path, Placement(threads=1)) for path in (onnx, onnx.with_suffix(".pt"))
    )
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(exported.run(batch), original.run(batch), atol=1e-4)


def refuse(path, **options):
    with pytest.raises(PredictorError) as caught:
        open_predictor(path, Placement(**options))
    return str(caught.value)


def test_unusable_files_are_refused(tmp_path):
    assert "No such file" in refuse(tmp_path / "none.onnx")
    assert "No such file" in refuse(tmp_path / "none.pt")
    for name in ("text.onnx", "text.pt"):
        (tmp_path / name).write_text("not a network")
    assert "not a usable ONNX model" in refuse(tmp_path / "text.onnx")
    assert "not a checkpoint" in refuse(tmp_path / "text.pt")
    other = write_model(tmp_path / "other.onnx", input_name="image")
    assert "`input` and `output`" in refuse(other)


@pytest.mark.parametrize("key, value", [("mean", "0.4"), ("stride", "16"), ("ref_size", "big")])
def test_other_metadata_are_refused(tmp_path, key, value):
    path = write_model(tmp_path / "a.onnx", metadata=METADATA | {key: value})
    assert f"{key} is {value}" in refuse(path)


def test_wrong_input_is_one_line(tmp_path):
    network = open_predictor(write_model(tmp_path / "a.onnx"), Placement(threads=1))
    with pytest.raises(PredictorError, match="refuses"):
        network.run(np.zeros((1, 4, 32, 32), np.float32))


def test_missing_device_is_named(tmp_path):
    import onnxruntime
    import torch

    save_checkpoint(tmp_path / "a.pt", MODNet(width=0.125, hr_channels=4))
    if not torch.cuda.is_available():
        assert "torch sees no CUDA device" in refuse(tmp_path / "a.pt", device="cuda")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "CPU build" in refuse(write_model(tmp_path / "a.onnx"), device="cuda")


def test_matte_is_the_one_that_is_served(make_client, portrait, portrait_jpeg):
    """What is measured is what users get without refining, but for the rounding to 8 bits.

    In float32: where the processor has AMX the service may run in bfloat16.
    """
    client = make_client(OnnxEngine(Settings(device="cpu")))
    answer = post_image(client, portrait_jpeg, "image/jpeg", output="alpha", refine="off")
    served = np.asarray(Image.open(io.BytesIO(answer.content)))
    network = open_predictor(Settings.model_fields["model_path"].default, Placement(threads=1))
    image = np.asarray(Image.open(io.BytesIO(portrait_jpeg)))
    alpha = predictor.settle_ends(predict_photo(network, image, None))
    np.testing.assert_allclose(served / 255, alpha, atol=0.6 / 255)
