"""Fixtures of the routes that speak as other services do."""

from collections.abc import Iterator

import pytest

from tests.compat_helpers import make_picture, see_person
from tests.fakes import FakeEngine
from tests.helpers import encode


@pytest.fixture(scope="module")
def fake() -> Iterator:
    """A client of an app whose network sees a person in the middle of every picture."""
    from tests.conftest import open_client

    with open_client(FakeEngine(see_person)) as opened:
        yield opened


@pytest.fixture(scope="module")
def small() -> bytes:
    return encode(make_picture(300, 200), "PNG")
