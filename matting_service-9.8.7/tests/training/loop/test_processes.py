"""Runs that several processes share; each start of one costs some seconds."""

import dataclasses

import pytest
from small_runs import StopAfter, assert_equal, change, change_stage, make_config, read, run

from training.data.synthetic import draw_data_set
from training.loop.stop import TrainError


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def test_two_processes_go_on_with_a_run_as_one_would(cache, tmp_path):
    config = change(make_config(cache), "data", hard_cap=4.0)
    config = change_stage(config, 1, batch_size=4, grad_clip=1.0)
    config = change(config, "validation", photos=1)
    alone = dataclasses.replace(config, batch_parts=2)
    shared = dataclasses.replace(config, processes=2)
    run(alone, tmp_path / "alone")
    assert "stopped" in run(alone, tmp_path / "shared", StopAfter(3))
    assert "finished" in run(shared, tmp_path / "shared", is_resumed=True)
    one, two = (read(tmp_path / name / "last.pt") for name in ("alone", "shared"))
    for record in (one, two):
        del record["config"]
    assert_equal(one, two)


def test_failure_of_a_process_ends_the_run_with_its_message(cache, tmp_path):
    folder = draw_data_set(tmp_path, 4)
    for photo in folder.glob("*.jpg"):  # the header stays whole
        photo.write_bytes(photo.read_bytes()[:-1000])
    config = change(make_config(str(tmp_path / "cache")), "data", folders=(str(folder),))
    config = change(config, "data", synthetic=0, paste_share=0.0, empty_share=0.0)
    config = dataclasses.replace(change_stage(config, 1, batch_size=4), processes=2)
    with pytest.raises((TrainError, ValueError), match="not a readable picture"):
        run(config, tmp_path / "out")
