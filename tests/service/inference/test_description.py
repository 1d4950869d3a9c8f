"""Networks that others made: what their description must say, and what is refused by name."""

import numpy as np
import pytest

from service.inference import openvino
from service.inference.description import (
    PRESETS,
    DescriptionError,
    format_description,
    parse_description,
    read_description,
)
from service.inference.engine import OnnxEngine, read_alpha
from service.inference.models import ModelError, ModelInfo, inspect_model, read_model
from service.inference.preprocessing import fit_to_network, make_tensor
from service.settings import Settings
from tests.fakes import FAKE_INFO
from tests.networks import U2NETP, describe, take, write_layout, write_recurrent
from tests.onnx_files import write_model
from tests.providers import HAS_OPENVINO

PLAIN = {"mean": 0.5, "std": 0.5}


def open_engine(path) -> OnnxEngine:
    return OnnxEngine(Settings(model_path=path, device="cpu"))


def inspect(path) -> ModelInfo:
    return inspect_model(read_model(path, None))


def strip_metadata(path):
    """Return a network without the exporter's metadata, its tensors of other names."""
    return write_model(path, metadata={}, input_name="x.1", output_name="1959")


@pytest.mark.parametrize("like", PRESETS)
def test_description_is_read_as_it_was_written(tmp_path, like):
    said = parse_description(PRESETS[like] | {"name": like})
    path = tmp_path / "x.toml"
    path.write_text(format_description(said))
    assert read_description(path) == said


def test_file_without_a_description_has_none(tmp_path):
    assert read_description(tmp_path / "x.toml") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", ["x.toml"]),
        ('name = "x"\nlicence = "MIT"\nstd = 1.0', ["x.toml", "mean", "required"]),
        ('name = "x"\nlicence = "MIT"\nmean = 0.5\nstd = 0.0', ["std must be greater than 0"]),
        ('name = "a/b"\nlicence = "MIT"\nmean = 0.5\nstd = 1.0', ["name", "pattern"]),
        ('name = "x"\nlicence = "MIT"\nmean = nan\nstd = 1.0', ["mean"]),
        (
            'name = "x"\nlicence = "MIT"\nmean = 0.5\nstd = 1.0\nsise = [1, 2]',
            ["x.toml: sise: is not a field; did you mean `size`?"],
        ),
        (
            'name = "x"\nmean = 0.5\nstd = 1.0\nlicense = "MIT"',
            ["license: is not a field; did you mean `licence`?"],
        ),
        ('name = "x"\nlicence = "MIT"\nmean = 0.5\nstd = 1.0\nquux = 1', ["quux: is not a field"]),
        ('name = "x"\nlicence = "MIT"\nmean = 0.5\nstd = 1.0\nstretch = 0.5', ["stretch"]),
    ],
)
def test_bad_description_is_refused_by_file_and_field(tmp_path, text, words):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(DescriptionError) as caught:
        read_description(tmp_path / "x.toml")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_description_that_cannot_be_read_is_refused_when_the_model_is(tmp_path):
    path = write_model(tmp_path / "x.onnx")
    path.with_suffix(".toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="x.toml"):
        read_model(path, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"output": 1}, "output: there are 1, counted from 0"),
        ({"output": "pha"}, "output: there is no `pha`; 1959"),
        ({"states": {"r1i": "r1o"}}, "states: there is no input `r1i`; inputs: x.1"),
        ({"states": {"x.1": "r1o"}}, "states: there is no output `r1o`; outputs: 1959"),
        ({"constants": {"ratio": (1.0,)}}, "constants: there is no input `ratio`"),
        ({"constants": {"x.1": (1.0,)}}, "one input must be left for the picture"),
    ],
)
def test_description_that_is_not_so_in_the_file_is_refused(tmp_path, fields, words):
    path = describe(strip_metadata(tmp_path / "x.onnx"), **PLAIN, **fields)
    for look in (inspect, open_engine):
        with pytest.raises(ModelError) as caught:
            look(path)
        assert "x.toml" in str(caught.value) and words in str(caught.value)


def test_second_input_that_nobody_described_is_refused(tmp_path):
    path = write_recurrent(tmp_path / "x.onnx")
    describe(path, **PLAIN)
    with pytest.raises(ModelError, match="one input must be left for the picture, not src, r1i"):
        inspect(path)


def test_file_without_metadata_says_how_to_describe_it(tmp_path):
    with pytest.raises(ModelError, match="matte models add x.onnx --like"):
        inspect(strip_metadata(tmp_path / "x.onnx"))


def test_described_network_runs_like_the_exported_one(tmp_path, portrait):
    exported = open_engine(write_model(tmp_path / "a.onnx"))
    others = open_engine(describe(strip_metadata(tmp_path / "b.onnx"), **PLAIN, ref_size=64))
    mattes = [
        engine.run(fit_to_network(portrait, engine.info, None, 1.5)[np.newaxis])
        for engine in (exported, others)
    ]
    assert others.info.name == "b" and others.info.weights_sha256 == others.info.sha256
    assert np.array_equal(*mattes)


@pytest.mark.skipif(not HAS_OPENVINO, reason="onnxruntime without OpenVINO")
def test_network_of_others_stays_in_float32_unless_its_description_allows_less(
    tmp_path, monkeypatch
):
    """On a processor with AMX, where `auto` means bfloat16 for files of `matte export`."""
    asked = []

    def note(precision, threads, streams):
        asked.append(precision)
        return make_options("fp32", threads, streams)

    make_options = openvino.make_options
    monkeypatch.setattr(openvino, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(openvino, "make_options", note)
    monkeypatch.setattr(openvino, "measure_precision", lambda probe: asked[-1])
    exported = write_model(tmp_path / "a.onnx")
    plain, allowed = (
        describe(strip_metadata(tmp_path / name), **PLAIN, ref_size=64, **fields)
        for name, fields in (("b.onnx", {}), ("c.onnx", {"bfloat16": True}))
    )
    settings = {"device": "openvino"}
    found = [
        OnnxEngine(Settings(**settings, **more), read_model(path, None)).precision
        for more, path in (
            ({}, exported),
            ({}, plain),
            ({}, allowed),
            ({"precision": "bf16"}, plain),
        )
    ]
    assert found == asked == ["bf16", "fp32", "bf16", "bf16"]


def test_channels_lie_in_the_order_that_is_told():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :, 0] = 255
    numbers = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 1.0)}
    rgb = make_tensor(image, (32, 32), **numbers)
    bgr = make_tensor(image, (32, 32), **numbers, channel_order="bgr")
    np.testing.assert_allclose(rgb[:, 0, 0], [1.8, -0.8, -0.3], rtol=1e-6)
    np.testing.assert_allclose(bgr[:, 0, 0], [-0.2, -0.8, 0.7], rtol=1e-6)


def test_output_is_read_as_described():
    output = np.linspace(-4, 4, 64, dtype=np.float32).reshape(1, 8, 8)
    info = {name: value for name, value in vars(FAKE_INFO).items()}

    def read(**fields):
        return read_alpha(output, ModelInfo(**info | fields))

    assert np.array_equal(read(), np.clip(output, 0, 1))
    np.testing.assert_allclose(read(activation="sigmoid"), 1 / (1 + np.exp(-output)), rtol=1e-6)
    np.testing.assert_allclose(read(stretch=0.0), (output + 4) / 8, atol=1e-6)
    quarter = read(stretch=0.25)
    assert (quarter == 0).sum() == (quarter == 1).sum() == 16 and quarter.dtype == np.float32


@pytest.mark.parametrize("value, alpha", [(0.3, 0.0), (0.5, 0.0), (0.9, 1.0)])
def test_stretched_matte_of_one_value_is_empty_or_full(value, alpha):
    info = ModelInfo(**vars(FAKE_INFO) | {"stretch": 0.0})
    assert (read_alpha(np.full((1, 4, 4), value, np.float32), info) == alpha).all()


def test_picture_without_a_subject_is_not_stretched_until_it_has_one():
    info = ModelInfo(**vars(FAKE_INFO) | {"stretch": 0.0})
    doubts = np.linspace(0.01, 0.1, 64, dtype=np.float32).reshape(1, 8, 8)
    assert read_alpha(doubts, info).max() < 0.2
    assert read_alpha(1 - doubts, info).min() > 0.8
    # One at a time: the neighbours in a batch do not count.
    both = np.concatenate([doubts, np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)])
    assert [matte.max() > 0.9 for matte in read_alpha(both, info)] == [False, True]


def test_real_u2netp_finds_the_person_and_nobody_on_a_wall(tmp_path, portrait):
    engine = open_engine(take(U2NETP, tmp_path, "u2net"))
    assert engine.info.fixed_size == (320, 320) and engine.max_batch_size == 1

    def matte(image):
        return engine.run(fit_to_network(image, engine.info, None, 1.5)[np.newaxis])[0]

    alpha = matte(portrait)
    assert alpha.shape == (320, 320)
    assert alpha[50:106, 112:162].mean() > 0.9 and alpha[0:37, 50:94].mean() < 0.1
    assert matte(portrait[:60, 80:150]).max() < 0.1


@pytest.mark.parametrize(
    ("like", "expected"),
    [
        # Red is 0, 51, 102, 153 and 204 of 255; the sigmoid of (red - mean) / std ...
        ("isnet", [0.0, 0.2439, 0.4951, 0.7488, 1.0]),  # ... is in the file, and stretched
        ("birefnet", [0.1074, 0.2236, 0.4083, 0.623, 0.7983]),  # ... comes after it
    ],
)
def test_preset_fits_the_layout_of_the_published_files(tmp_path, like, expected):
    """A stand-in of that layout, whose output is the red channel: no package has the files."""
    layout = {"isnet": {"last": "Sigmoid", "outputs": 6}, "birefnet": {"last": "Identity"}}
    path = write_layout(tmp_path / f"{like}.onnx", **layout[like])
    engine = open_engine(describe(path, **PRESETS[like]))
    assert engine.info.fixed_size == (1024, 1024) and engine.info.is_recurrent is False
    image = np.zeros((40, 50, 3), np.uint8)
    image[:, :, 0] = np.repeat([0, 51, 102, 153, 204], 10)
    image[:, :, 1:] = 255  # other channels must not come in
    alpha = engine.run(fit_to_network(image, engine.info, None, 1.5)[np.newaxis])[0]
    np.testing.assert_allclose(alpha[512, 102::205], expected, atol=2e-3)


def test_wrong_size_for_u2netp_is_refused_at_start(tmp_path):
    path = take(U2NETP, tmp_path, "u2net", size=(512, 512))
    with pytest.raises(ModelError, match=r"u2netp.toml: size: the input is 320 x 320"):
        inspect(path)
