import os

import pytest
import torch

from tests.tiny_network import export_tiny

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# On busy cores two threads that wait for each other take 20 times as long as one.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """The tiny network: tiny.onnx, beside it tiny.json and tiny.pt."""
    return export_tiny(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
