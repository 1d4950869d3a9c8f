"""Starts that fail, and leave the jobs of others and what is damaged as they are."""

from pathlib import Path

import pytest

from service.jobs.rows.store import DATABASE, FOLDER
from tests.clips import make_clip
from tests.helpers import run_service, start_live_server
from tests.onnx_files import write_model
from tests.service.jobs.test_job_crashes import bring


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def assert_refuses_to_start(*words: str, **settings: object) -> None:
    done = run_service(**settings)
    assert done.returncode == 3, done
    (line,) = done.stderr.splitlines()  # one line, no traceback
    assert line.startswith("cannot start: ")
    for word in words:
        assert word in line


def test_second_process_on_a_data_folder_refuses_to_start(tmp_path, model: Path) -> None:
    server = start_live_server(tmp_path / "log", model_path=model, data_dir=tmp_path)
    try:
        assert_refuses_to_start(
            "another process", "MATTING_DATA_DIR", model_path=model, data_dir=tmp_path
        )
        clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=8, size=(64, 64), tone=False)
        bring(server, clip.read_bytes(), "k")
    finally:
        assert server.stop() == 0


def test_damaged_database_stops_the_start(tmp_path, model: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / DATABASE).write_bytes(b"no database " * 100)
    assert_refuses_to_start("cannot be used", model_path=model, data_dir=tmp_path)
    assert (tmp_path / FOLDER / DATABASE).read_bytes() == b"no database " * 100
