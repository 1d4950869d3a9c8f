import numpy as np
import pytest
import torch
from golden_weights import GOLDEN, make_golden_model
from torch import nn

from export.fold_norm import fold_norms
from export.to_onnx import fold
from tests.tiny_network import make_tiny_model


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "golden.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_folded_network_gives_the_official_matte(golden, dtype, tolerance):
    folded = fold_norms(make_golden_model().to(dtype))
    image = torch.from_numpy(golden["in_a"]).to(dtype)
    with torch.no_grad():
        matte = folded(image, inference=True)[2]
    np.testing.assert_allclose(matte, golden["a_matte_f64"], rtol=0, atol=tolerance)


def test_folding_one_block_is_exact_to_5e_6():
    block = make_tiny_model().hr_branch.conv_hr4x
    model = make_tiny_model()
    folded = fold_norms(model)
    x = torch.randn(2, 15, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_allclose(folded.hr_branch.conv_hr4x(x), block(x), rtol=0, atol=5e-6)


def test_no_batch_norm_is_left():
    network = fold(make_tiny_model())
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_folding_leaves_the_original_alone():
    model = make_tiny_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fold(model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
