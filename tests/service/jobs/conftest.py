"""A PostgreSQL for tests of jobs that services share."""

from collections.abc import Iterator

import pytest

from tests.postgres import Postgres, run_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server
