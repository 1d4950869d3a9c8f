from itertools import islice

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN, make_golden_model

from training.loop.adaptation import BETAS, take_step
from training.losses.modnet import compute_supervised_losses
from training.losses.semantic import make_blur_kernel, reduce_to_semantic
from training.losses.soc import average_inside, compute_soc_losses, find_boundary

RTOL = 1e-8


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "losses.npz") as arrays:
        return dict(arrays)


def read_batch(golden, dtype=torch.float64):
    return [torch.from_numpy(golden[name]).to(dtype) for name in ("image", "matte", "trimap")]


def measure_gradients(model):
    return np.array([parameter.grad.norm().item() for parameter in model.parameters()])


def train_supervised(model, batch):
    """Yield the losses of one step after the other."""
    image, alpha, trimap = batch
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    model.train()
    while True:
        optimizer.zero_grad()
        losses = compute_supervised_losses(*model(image), image, alpha, trimap)
        sum(losses).backward()
        optimizer.step()
        yield [loss.item() for loss in losses]


def make_soc_models(suffix):
    """Return the model to adapt and its frozen copy, biases shifted so that the photo is split."""
    models = [make_golden_model(), make_golden_model(suffix)]
    with torch.no_grad():
        for model in models:
            model.double().eval()
            model.f_branch.conv_f[1].layers[0].bias -= 3.0
            model.lr_branch.conv_lr.layers[0].bias -= 2.0
    return models


def adapt(model, backup, image):
    """Yield (losses, boundary) of one SOC step after the other."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=BETAS)
    model.train()
    model.freeze_norm()
    while True:
        with torch.no_grad():
            semantic, _, matte = model(image)
        yield take_step(model, backup, image, optimizer), find_boundary(semantic, matte)


def test_blur_kernel_equals_official(golden):
    np.testing.assert_array_equal(make_blur_kernel(), golden["blur_kernel"])


def test_semantic_target_equals_official(golden):
    target = reduce_to_semantic(read_batch(golden)[1])
    np.testing.assert_allclose(target, golden["gt_semantic_f64"], rtol=0, atol=1e-12)


def test_supervised_losses_of_given_predictions_equal_official(golden):
    names = [f"sup_pred_{name}_f64" for name in ("semantic", "detail", "matte")]
    predictions = [torch.from_numpy(golden[name]) for name in names]
    losses = compute_supervised_losses(*predictions, *read_batch(golden))
    np.testing.assert_allclose(losses, golden["sup_losses_f64"][0], rtol=RTOL)


def test_supervised_step_equals_official(golden):
    model = make_golden_model().double()
    losses = next(train_supervised(model, read_batch(golden)))
    np.testing.assert_allclose(losses, golden["sup_losses_f64"][0], rtol=RTOL)
    assert [name for name, _ in model.named_parameters()] == golden["param_names"].tolist()
    expected = golden["sup_grad_norm_iter1_f64"]
    # Biases before a normalisation have no gradient but rounding errors.
    np.testing.assert_allclose(measure_gradients(model), expected, rtol=RTOL, atol=1e-9)


def test_supervised_step_in_float32_is_near_official(golden):
    losses = next(train_supervised(make_golden_model(), read_batch(golden, torch.float32)))
    np.testing.assert_allclose(losses, golden["sup_losses_f32"][0], rtol=1e-4)


@pytest.mark.slow
def test_three_supervised_steps_equal_official(golden):
    model, batch = make_golden_model().double(), read_batch(golden)
    losses = list(islice(train_supervised(model, batch), 3))
    np.testing.assert_allclose(losses, golden["sup_losses_f64"], rtol=RTOL)
    with torch.no_grad():
        matte = model.eval()(batch[0])[2]
    np.testing.assert_allclose(matte, golden["sup_after3_eval_matte_f64"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("case, suffix", [("same", ""), ("other", "|backup")])
def test_soc_step_equals_official(golden, case, suffix):
    model, backup = make_soc_models(suffix)
    losses, boundary = next(adapt(model, backup, read_batch(golden)[0]))
    np.testing.assert_allclose(losses, golden[f"soc_{case}_losses_f64"][0], rtol=RTOL)
    np.testing.assert_array_equal(boundary, golden[f"soc_{case}_boundaries_iter1"])
    expected = golden[f"soc_{case}_grad_norm_iter1_f64"]
    np.testing.assert_allclose(measure_gradients(model), expected, rtol=RTOL, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case, suffix", [("same", ""), ("other", "|backup")])
def test_three_soc_steps_equal_official(golden, case, suffix):
    model, backup = make_soc_models(suffix)
    losses = [step[0] for step in islice(adapt(model, backup, read_batch(golden)[0]), 3)]
    np.testing.assert_allclose(losses, golden[f"soc_{case}_losses_f64"], rtol=RTOL)


def test_soc_losses_stay_finite_without_a_boundary():
    semantic = torch.zeros(2, 1, 8, 8, requires_grad=True)
    detail = torch.zeros(2, 1, 128, 128, requires_grad=True)
    matte = torch.zeros(2, 1, 128, 128, requires_grad=True)
    losses = compute_soc_losses(semantic, detail, matte, torch.ones(()), torch.ones(()))
    sum(losses).backward()
    assert losses.detail.item() == 0
    for tensor in (semantic, detail, matte):
        assert torch.isfinite(tensor.grad).all()


def test_boundary_is_empty_when_the_window_is_a_pixel():
    assert find_boundary(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 32, 32)).sum() == 0


def test_average_inside_weighs_photos_equally():
    region = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0]])[:, None, None]
    error = torch.tensor([[1.0, 1, 1, 1], [3, 9, 9, 9]])[:, None, None]
    assert average_inside(region, error).item() == 2


def make_small_batch(value):
    full = torch.full((1, 1, 32, 32), value)
    trimap = torch.full((1, 1, 32, 32), 0.5)
    trimap[..., :16] = 1
    return torch.full((1, 1, 2, 2), value), full, full, torch.zeros(1, 3, 32, 32), trimap


def test_bce_detail_loss_counts_unknown_pixels_only():
    semantic, detail, matte, image, trimap = make_small_batch(0.5)
    alpha = torch.ones(1, 1, 32, 32)
    losses = compute_supervised_losses(
        semantic, detail, matte, image, alpha, trimap, detail_loss="bce"
    )
    assert losses.detail.item() == pytest.approx(10 * 0.5 * np.log(2))


def test_trimap_of_bytes_is_refused():
    semantic, detail, matte, image, trimap = make_small_batch(0.5)
    with pytest.raises(ValueError, match="0, 0.5 and 1"):
        compute_supervised_losses(semantic, detail, matte, image, matte, trimap * 255)
