"""The fast network as an ONNX file: the same contract, another name."""

import json

import numpy as np
import onnx
import pytest
import torch

from cli.__main__ import main
from training.evaluation.predictor import Placement, open_predictor
from training.network.checkpoint import load_model, save_checkpoint
from training.network.fast import FastNet

SIZES = ["--ref-size", "192", "--photo-ref-sizes", "128,224"]


@pytest.mark.slow
def test_fast_network_is_exported_to_the_contract_of_modnet(tmp_path):
    torch.manual_seed(0)
    checkpoint, out = tmp_path / "fast.pt", tmp_path / "fast.onnx"
    save_checkpoint(checkpoint, FastNet(width=0.125))
    assert main(["export", str(checkpoint), str(out), *SIZES]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["model"] == "modnet-fast" and report["max_abs"] <= report["tolerance"]
    model = onnx.load(out)
    metadata = {item.key: item.value for item in model.metadata_props}
    assert metadata["name"] == "modnet-fast" and metadata["stride"] == "32"
    assert (metadata["ref_size"], metadata["mean"], metadata["std"]) == ("192", "0.5", "0.5")
    assert metadata["photo_ref_sizes"] == "128,224"
    # The norms are in the convolutions, the training head is gone.
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert not [weight for weight in model.graph.initializer if "aux" in weight.name]
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 160)).astype(np.float32)
    served = open_predictor(out, Placement(threads=1)).run(batch)
    with torch.no_grad():
        matte = load_model(checkpoint)(torch.from_numpy(batch), inference=True)[2]
    np.testing.assert_allclose(served, matte[:, 0].numpy(), atol=1e-4)
