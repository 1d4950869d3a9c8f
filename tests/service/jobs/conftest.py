"""Fixtures that tests of jobs share: a short clip, a PostgreSQL, a storage."""

from collections.abc import Iterator

import pytest

from tests.clips import make_clip
from tests.postgres import Postgres, run_postgres
from tests.storage import S3, run_s3


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, fps=8, size=(64, 64), tone=False).read_bytes()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with run_s3() as server:
        yield server


@pytest.fixture
def storage_url(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty storage, whose server and credentials are in the environment."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return s3.make_bucket()
