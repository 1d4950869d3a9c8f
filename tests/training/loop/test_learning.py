"""The config of the first run learns; a file of its own, as it would end the suite alone."""

import dataclasses

import pytest
from small_runs import TINY, run

from training.config import load_config
from training.loop.report import read_log


@pytest.mark.parametrize(
    ("share", "detail", "matte"),
    [(0.5, 0.95, 0.9), pytest.param(1, 0.75, 0.7, marks=pytest.mark.slow)],
)
def test_tiny_config_lowers_the_loss(tmp_path, share, detail, matte):
    config = load_config(TINY)
    stages = tuple(dataclasses.replace(s, epochs=int(s.epochs * share)) for s in config.stages)
    data = dataclasses.replace(config.data, cache=str(tmp_path / "cache"))
    run(dataclasses.replace(config, data=data, stages=stages), tmp_path)
    rows = [row for row in read_log(tmp_path / "log.csv") if row["matte"]]
    for name, factor in {"detail": detail, "matte": matte}.items():
        assert float(rows[-1][name]) < factor * float(rows[0][name])
    scores = [row for row in read_log(tmp_path / "log.csv") if row["val_mad"]]
    assert float(scores[-1]["val_mad"]) < 0.4
