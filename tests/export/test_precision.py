"""Half precision, measured on the CPU: the same mattes but for rounding, in half the bytes."""

import json
import shutil

import numpy as np
import onnx

import export.pipeline
from cli.__main__ import main as matte
from export.precision import KEPT, halve
from export.verify import HALF_TOLERANCE
from service.inference.engine import OnnxEngine
from service.inference.preprocessing import fit_to_network
from service.settings import DEFAULT_MODEL, Settings
from tests.helpers import ROOT

MODNET = DEFAULT_MODEL.with_name("modnet.onnx")
CHECKPOINT = ROOT / "training" / "weights" / "modnet.npz"


def test_half_precision_gives_the_mattes_of_the_whole(tmp_path, portrait):
    path = tmp_path / "half.onnx"
    shutil.copy(MODNET, path)
    halve(path)
    assert path.stat().st_size < 0.55 * MODNET.stat().st_size
    graph = onnx.load(path).graph
    kinds = {node.op_type for node in graph.node}
    assert kinds >= set(KEPT)
    halves = [
        tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16
    ]
    assert len(halves) > 60
    whole, half = (OnnxEngine(Settings(model_path=one, device="cpu")) for one in (MODNET, path))
    tensor = fit_to_network(portrait, whole.info, 128, 1.5)[np.newaxis]
    difference = np.abs(whole.run(tensor) - half.run(tensor))
    assert 0 < difference.max() < 0.05 and difference.mean() < 1e-3


def test_export_in_half_precision_is_verified_and_says_so(tmp_path, monkeypatch):
    """Tracing takes long and is tested elsewhere; loading, halving and verification are real."""
    monkeypatch.setattr(
        export.pipeline,
        "write_onnx",
        lambda network, path, metadata: shutil.copy(MODNET, path),
    )
    out = tmp_path / "half.onnx"
    assert matte(["export", str(CHECKPOINT), str(out), "--precision", "fp16"]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["precision"] == "fp16" and report["tolerance"] == HALF_TOLERANCE
    assert 1e-4 < report["max_abs"] <= HALF_TOLERANCE
