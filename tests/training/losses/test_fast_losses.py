import pytest
import torch

from training.losses.fast import compare_gradients, compute_fast_losses


def make_logits(alpha: torch.Tensor) -> torch.Tensor:
    return (alpha * 2 - 1) * 30


def test_perfect_prediction_costs_nothing_and_a_wrong_one_much():
    alpha = torch.zeros(2, 1, 64, 96)
    alpha[..., 32:] = 1
    trimap, semantic = alpha.clone(), make_logits(torch.nn.functional.avg_pool2d(alpha, 16))
    good = compute_fast_losses(semantic, make_logits(alpha), alpha, trimap)
    bad = compute_fast_losses(-semantic, make_logits(1 - alpha), alpha, trimap)
    assert sum(good).item() == pytest.approx(0, abs=1e-6)
    assert all(loss > 0.01 for loss in bad)


def test_unknown_pixels_weigh_four_times():
    alpha, logits = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    semantic = torch.full((1, 1, 2, 2), -30.0)
    known = compute_fast_losses(semantic, logits, alpha, torch.zeros_like(alpha)).matte
    unknown = compute_fast_losses(semantic, logits, alpha, torch.full_like(alpha, 0.5)).matte
    assert (unknown - known).item() == pytest.approx(3 * 0.5)


def test_without_cross_entropy_the_loss_is_least_at_the_median():
    """Of ten pixels that look alike three are foreground."""
    alpha = torch.zeros(1, 1, 32, 320)
    alpha[..., :96] = 1
    semantic = torch.zeros(1, 1, 2, 20)

    def find_best(cross_entropy: float) -> float:
        def measure(value: float) -> float:
            matte = torch.logit(torch.full_like(alpha, value))
            parts = compute_fast_losses(
                semantic, matte, alpha, torch.zeros_like(alpha), cross_entropy=cross_entropy
            )
            return parts.matte.item()

        return min((value / 100 for value in range(1, 100)), key=measure)

    assert find_best(0.0) == 0.01
    assert find_best(100.0) == pytest.approx(0.3, abs=0.011)


def test_gradients_are_compared_at_three_scales():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    # Neighbours differ by 1, 2 and 4 along the rows: 0.25 (1 * 1 + 2 * 2 + 4 * 4).
    assert compare_gradients(ramp, torch.ones_like(ramp)).item() == pytest.approx(5.25)
