"""The ONNX files the service comes with."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from cli.__main__ import main as matte
from export.to_onnx import MatteOnly
from export.verify import TOLERANCE, compare
from training.network.checkpoint import build_model, read_checkpoint

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "service" / "weights"
CHECKPOINTS = ROOT / "training" / "weights"
VERSIONS = {"modnet": "5", "modnet-fast": "6"}
PHOTO_SIZES = {
    "modnet": {"photo_ref_sizes": "320,448"},
    "modnet-fast": {"photo_ref_sizes": "256,448"},
}
NAMES = sorted(VERSIONS)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def onnx_bytes(name):
    return (WEIGHTS / f"{name}.onnx").read_bytes()


@pytest.fixture(scope="module")
def report(name):
    return json.loads((WEIGHTS / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def session(onnx_bytes):
    return onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])


def test_all_files_are_tested():
    assert sorted(path.stem for path in WEIGHTS.glob("*.onnx")) == NAMES


def test_metadata_and_report_agree(name, session, onnx_bytes, report):
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata == {
        "name": name,
        "version": VERSIONS[name],
        "sha256": report["checkpoint_sha256"],
        "mean": "0.5",
        "std": "0.5",
        "stride": "32",
        "ref_size": "320",
        "licence": "Apache-2.0",
        "precision": "fp32",
        **PHOTO_SIZES[name],
    }
    assert report["onnx_sha256"] == hashlib.sha256(onnx_bytes).hexdigest()
    assert report["max_abs"] <= report["tolerance"]


def test_model_card_names_both_files(report):
    card = (WEIGHTS / "MODEL_CARD.md").read_text()
    assert report["onnx_sha256"] in card and report["checkpoint_sha256"] in card


def test_person_is_found(session):
    from skimage.data import astronaut

    image = cv2.resize(astronaut(), (320, 320), interpolation=cv2.INTER_AREA)
    image = image.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    matte = session.run(["output"], {"input": image})[0][0, 0]
    alpha = cv2.resize(matte, (512, 512), interpolation=cv2.INTER_LINEAR)
    assert alpha[80:170, 180:260].mean() > 0.9  # face
    assert alpha[0:60, 80:150].mean() < 0.1  # wall


def test_file_does_what_the_checkpoint_does(onnx_bytes, report):
    checkpoint = read_checkpoint(CHECKPOINTS / report["checkpoint_file"])
    assert checkpoint.sha256 == report["checkpoint_sha256"]
    cases = compare(MatteOnly(build_model(checkpoint)), onnx_bytes)
    assert max(case.max_abs for case in cases) <= TOLERANCE / 10


@pytest.mark.slow
def test_command_of_the_model_card_makes_the_file_again(name, tmp_path, report):
    command = next(
        line.split()
        for line in (WEIGHTS / "MODEL_CARD.md").read_text().splitlines()
        if line.startswith("python -m export ") and f"/{name}.onnx" in line
    )
    checkpoint, out, *options = command[3:]
    assert VERSIONS[name] == options[options.index("--version") + 1]
    assert matte(["export", str(ROOT / checkpoint), str(tmp_path / Path(out).name), *options]) == 0
    made = json.loads((tmp_path / f"{name}.json").read_text())
    if made["versions"] != report["versions"]:
        pytest.skip("other package versions than those of the file")
    measured = {"max_abs", "mean_abs", "cases"}  # differ in the last digits with the threads
    for name in report.keys() - measured:
        assert made[name] == report[name], name
