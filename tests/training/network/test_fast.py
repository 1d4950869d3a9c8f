from pathlib import Path

import pytest
import torch

from training.network.checkpoint import load_model, save_checkpoint
from training.network.fast import FastNet

SEED = Path(__file__).parents[4] / "shared" / "pretrained" / "fast_seed.npz"


@pytest.mark.parametrize(("width", "in_channels"), [(0.125, 3), (0.25, 4)])
def test_outputs_are_those_of_modnet_without_detail(width, in_channels):
    torch.manual_seed(0)
    model = FastNet(in_channels, width).eval()
    image = torch.rand(2, in_channels, 64, 96) * 2 - 1
    with torch.no_grad():
        semantic, detail, matte = model(image)
        alone = model(image, inference=True)
    assert semantic.shape == (2, 1, 4, 6) and detail is None and matte.shape == (2, 1, 64, 96)
    assert 0 <= matte.min() and matte.max() <= 1
    assert alone[:2] == (None, None) and torch.equal(alone[2], matte)


def test_full_width_has_the_parameters_of_the_design():
    model = FastNet()
    assert sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for p in model.aux.parameters()
    ) == pytest.approx(1.9e6, rel=0.01)
    assert len(model.encoder) == 18


def test_checkpoint_says_which_network_it_is(tmp_path):
    torch.manual_seed(0)
    model = FastNet(width=0.125).eval()
    save_checkpoint(tmp_path / "fast.pt", model)
    loaded = load_model(tmp_path / "fast.pt")
    assert isinstance(loaded, FastNet) and loaded.architecture == model.architecture
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(image)[2], model(image)[2])


def test_bare_state_dict_is_recognised_and_may_lack_the_training_head(tmp_path):
    torch.manual_seed(0)
    model = FastNet()
    state = {key: value for key, value in model.state_dict().items() if "aux" not in key}
    torch.save(state, tmp_path / "bare.pt")
    loaded = load_model(tmp_path / "bare.pt")
    assert isinstance(loaded, FastNet)
    assert torch.equal(loaded.last.weight, model.last.weight)


@pytest.mark.skipif(not SEED.is_file(), reason="the weights to start from are not here")
def test_weights_to_start_from_load():
    assert isinstance(load_model(SEED), FastNet)
