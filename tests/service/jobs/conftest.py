"""Fixtures that tests of jobs share: a short clip, a PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.clips import make_clip
from tests.postgres import Postgres, run_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, fps=8, size=(64, 64), tone=False).read_bytes()
