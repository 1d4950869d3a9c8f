import hashlib

import numpy as np
import pytest
import torch
from golden_weights import DIGESTS, GOLDEN, STATE_LIST, make_golden_arrays, make_golden_model

from training.network.modnet import IBNorm, MODNet


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model():
    return make_golden_model().eval()


@pytest.fixture(scope="module")
def model_f64():
    return make_golden_model().eval().double()


def test_state_dict_has_official_keys_shapes_and_order():
    state = MODNet().state_dict()
    ours = [[key, list(value.shape), str(value.dtype)[6:]] for key, value in state.items()]
    assert ours == STATE_LIST
    assert len({value.data_ptr() for value in state.values()}) == 439


@pytest.mark.parametrize("suffix, digest", [("", "all_sha256"), ("|backup", "all_sha256_backup")])
def test_regenerated_weights_equal_digests(suffix, digest):
    arrays, total = make_golden_arrays(suffix), hashlib.sha256()
    for key in sorted(arrays):
        total.update(key.encode() + arrays[key].tobytes())
    assert total.hexdigest() == DIGESTS[digest]


def test_regenerated_tensors_equal_their_digests():
    expected = DIGESTS["per_tensor_sha256_16"]
    arrays = make_golden_arrays()
    assert len(arrays) == len(expected) == 439
    for key, array in arrays.items():
        assert hashlib.sha256(array.tobytes()).hexdigest()[:16] == expected[key], key


@pytest.mark.parametrize("case", ["a", "b"])
def test_outputs_equal_official_in_float64(model_f64, golden, case):
    image = torch.from_numpy(golden[f"in_{case}"]).double()
    with torch.no_grad():
        outputs = model_f64(image)
    for name, output in zip(("semantic", "detail", "matte"), outputs, strict=True):
        np.testing.assert_allclose(output, golden[f"{case}_{name}_f64"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", ["a", "b"])
def test_outputs_equal_official_in_float32(model, golden, case):
    image = torch.from_numpy(golden[f"in_{case}"])
    with torch.no_grad():
        outputs = model(image)
    for name, output in zip(("semantic", "detail", "matte"), outputs, strict=True):
        np.testing.assert_allclose(output, golden[f"{case}_{name}"], rtol=0, atol=2e-4)


def test_features_equal_official_in_float64(model_f64, golden):
    image = torch.from_numpy(golden["in_a"]).double()
    with torch.no_grad():
        features = model_f64.backbone(image)
        se32x = model_f64.lr_branch.se_block(features[-1])
        _, lr8x, (enc2x, enc4x) = model_f64.lr_branch(image, True)
        _, hr2x = model_f64.hr_branch(image, enc2x, enc4x, lr8x, True)
    names = ["enc2x", "enc4x", "enc8x", "enc16x", "enc32x", "se32x", "lr8x", "hr2x"]
    for name, tensor in zip(names, [*features, se32x, lr8x, hr2x], strict=True):
        moments = [tensor.mean(), tensor.std(unbiased=False), tensor.abs().max()]
        numbers = np.array([*moments, *tensor[0, :8, 0, 0]])
        np.testing.assert_allclose(
            numbers, golden[f"a_stat_{name}_f64"], rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_inference_gives_the_same_matte_and_nothing_else(model, golden):
    image = torch.from_numpy(golden["in_b"])
    with torch.no_grad():
        semantic, detail, matte = model(image, inference=True)
        assert semantic is None and detail is None
        assert torch.equal(matte, model(image)[2])


def test_batch_gives_the_mattes_of_its_images(model, golden):
    image = torch.from_numpy(golden["in_b"])
    with torch.no_grad():
        single = torch.cat([model(image[:1])[2], model(image[1:])[2]])
        np.testing.assert_allclose(model(image)[2], single, rtol=0, atol=2e-4)


def test_instance_half_uses_the_present_image_in_evaluation():
    norm = IBNorm(4).eval()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 5 + 3
    y = norm(x)
    np.testing.assert_allclose(y[:, :2].detach(), x[:, :2], rtol=1e-4)
    np.testing.assert_allclose(y[:, 2:].mean(dim=(2, 3)).detach(), np.zeros((2, 2)), atol=1e-6)


def test_fourth_channel_reaches_the_backbone_only():
    torch.manual_seed(0)
    model = MODNet(in_channels=4, width=0.125, hr_channels=4).eval()
    with torch.no_grad():
        semantic, detail, matte = model(torch.rand(1, 4, 64, 96))
    assert semantic.shape == (1, 1, 4, 6) and detail.shape == matte.shape == (1, 1, 64, 96)


def test_freeze_norm_after_train_equals_eval():
    torch.manual_seed(0)
    model, image = MODNet(width=0.125, hr_channels=4), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval()(image)[2]
        model.train().freeze_norm()
        assert torch.equal(model(image)[2], expected)
