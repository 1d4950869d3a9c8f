"""Both faces of the client against real servers."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest

from matting_client import Retry
from tests.clips import make_clip
from tests.faces import open_face
from tests.fakes import FakeEngine
from tests.sockets import serve

SOON = Retry(pause_s=0.01)  # a lost connection is no reason to wait in a test


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable]:
    """Return `connect(url, ...)`: a client of either face, closed at the end."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:

        def make(*arguments, **options):
            options = {"retry": SOON} | options
            client = open_face(request.param, runner, *arguments, **options)
            stack.callback(lambda: client.close())
            return client

        yield make


@pytest.fixture(scope="session")
def fake_service() -> Iterator[str]:
    """The address of a service whose network finds everybody everywhere; its keys are a and b."""
    with serve(FakeEngine(), api_keys=("a", "b")) as http:
        yield str(http.base_url)


@pytest.fixture(scope="session")
def service(engine) -> Iterator[str]:
    """The address of a service with the real network."""
    with serve(engine) as http:
        yield str(http.base_url)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, fps=12).read_bytes()


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    return make_clip(path, seconds=2, tone=False).read_bytes()
