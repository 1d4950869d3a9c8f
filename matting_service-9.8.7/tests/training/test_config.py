from pathlib import Path

import pytest

import training
from training.config import Config, ConfigError, load_config
from training.loop.optimizer import compute_lr

CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.toml"))
STAGE = """
[[stages]]
name = "all"
epochs = 2
batch_size = 4
sizes = [[64, 64]]
lr = 1
"""


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path):
    assert load_config(path).stages


def test_values_are_read_and_the_rest_is_default(tmp_path):
    config = read(tmp_path, 'seed = 3\n[data]\nfolders = ["a", "b"]\n' + STAGE)
    assert (config.seed, config.data.folders, config.data.workers) == (3, ("a", "b"), 1)
    (stage,) = config.stages
    assert stage.sizes == ((64, 64),)
    assert isinstance(stage.lr, float)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sed = 1" + STAGE, "unknown sed, did you mean seed?"),
        ("[data]\npaste = 1\n" + STAGE, "unknown data.paste, did you mean data.paste_share?"),
        (STAGE + "learn = 1", "unknown stages[0].learn, did you mean stages[0].lr?"),
        (STAGE.replace("lr = 1", ""), "stages[0].lr is missing"),
        ("seed = 1", "stages is missing"),
        ("stages = []", "stages should have at least 1 item, not 0"),
        ('seed = "a"' + STAGE, "seed should be a valid integer, is 'a'"),
        ("seed = true" + STAGE, "seed should be a valid integer, is True"),
        ('detail_loss = "l2"' + STAGE, "detail_loss should be 'l1' or 'bce', is 'l2'"),
        ("model = 1" + STAGE, "model must be a table"),
        ('[data]\nfolders = "a"' + STAGE, "data.folders should be a valid array, is 'a'"),
        (
            "[data]\npaste_share = 1.2" + STAGE,
            "data.paste_share should be less than or equal to 1, is 1.2",
        ),
        ("[data]\npaste_share = 1" + STAGE, "data.paste_share and empty_share add up"),
        (STAGE.replace("[64, 64]", "[64, 60]"), "stages[0].sizes[0][1] should be a multiple of 32"),
        (STAGE.replace("[64, 64]", "[64]"), "stages[0].sizes[0][1] is missing"),
        (STAGE.replace("= 4", "= 1"), "stages[0].batch_size should be greater than or equal to 2"),
        (STAGE.replace("= 2", "= 0"), "stages[0].epochs should be greater than or equal to 1"),
        (STAGE.replace("lr = 1", "lr = 0"), "stages[0].lr should be greater than 0"),
        (
            "[validation]\nref_size = 8" + STAGE,
            "validation.ref_size should be greater than or equal to 32",
        ),
        ("ema_decay = 1" + STAGE, "ema_decay should be less than 1, is 1"),
        ("processes = 2\nthreads = 2" + STAGE, "processes run on a CPU with one thread each"),
        ("processes = 2\nbatch_parts = 3" + STAGE, "batch_parts must be a multiple of processes"),
        ("batch_parts = 4" + STAGE, "stages[0].batch_size must be a multiple of the 4 parts"),
        (STAGE + "empty_share = 0.5", "stages[0]: its paste and empty shares are more than 1"),
        ("[data]\nweights = {a = -1}" + STAGE, "data.weights.a should be greater than or equal"),
        (
            '[model]\nnetwork = "fast"' + STAGE + 'branches = "lr"',
            "stages[0].branches must be all: only MODNet has others",
        ),
        ("seed = ", "Invalid value"),
    ],
)
def test_unusable_config_is_refused_in_one_line(tmp_path, text, problem):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'config.toml'}: {problem}")
    assert "\n" not in str(caught.value)


def test_missing_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: No such file or directory"):
        load_config(tmp_path / "none.toml")


def test_schedule_of_the_paper():
    path = next(path for path in CONFIGS if path.stem == "paper")
    (stage,) = load_config(path).stages
    assert (stage.optimizer, stage.momentum, stage.weight_decay) == ("sgd", 0.9, 0)
    assert (stage.epochs, stage.batch_size, stage.sizes) == (40, 16, ((512, 512),))
    rates = [compute_lr(stage, epoch * 100 + 99, 100) for epoch in (0, 9, 10, 19, 20, 30, 39)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-5, 1e-5])


def test_cosine_rises_then_falls_to_its_share(tmp_path):
    text = STAGE + "warmup = 0.1\nfinal_lr_factor = 0.2"
    (stage,) = read(tmp_path, text).stages
    rates = [compute_lr(stage, step, 50) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1 and rates[55] == pytest.approx(0.6)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(0.2, abs=1e-3)
