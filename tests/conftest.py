"""Fixtures that the tests of stills, videos and operations share."""

import contextlib
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.helpers import LiveServer, encode, start_live_server
from tests.storage import S3, run_s3

# The same examples in each run: a failure is the change's, not the day's, nor the machine's.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")

# Programs that `make test` has unpacked, for tests and for the services that they start.
PROGRAMS = Path(sys.prefix) / "programs"
os.environ["PATH"] += f":{PROGRAMS / 'usr/sbin'}:{PROGRAMS / 'usr/bin'}"

# Decoder children cost time to start; one is enough where a test does not say otherwise. So is one
# model: a fake engine would else have the real fast network beside it, which serves live frames.
TEST_SETTINGS = {"decoders": 1, "disk_min_free_percent": 0, "models": ()}


def pytest_collection_finish() -> None:
    """Spare the collector what is imported and stays: some 4 % of the time of many tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    """Keep the settings of whoever runs the tests out of them."""
    found = {name: value for name, value in os.environ.items() if name.startswith("MATTING_")}
    for name in found:
        del os.environ[name]
    yield
    os.environ.update(found)


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """Undo what a shell does to programs in the background: those that tests start inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def ordinary_scheduling() -> Iterator[None]:
    """Take back the real-time priority that SVT-AV1 gives the thread that encodes, as root.

    All processes that are started later would inherit it, and one that spins would stop the rest.
    """
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A person before a bright wall: (512, 512, 3) uint8 RGB, not to be written to."""
    from skimage.data import astronaut

    image = astronaut()
    image.setflags(write=False)
    return image


@pytest.fixture(scope="session")
def portrait_jpeg(portrait: np.ndarray) -> bytes:
    return encode(portrait, "JPEG", quality=95)


@pytest.fixture(scope="session")
def engine():
    """The real network on the CPU."""
    from service.inference.engine import OnnxEngine
    from service.settings import Settings

    return OnnxEngine(Settings(**TEST_SETTINGS))


@pytest.fixture
def make_client() -> Iterator[Callable]:
    """Return `make_client(engine, **settings)`: a client of an app that runs until the test ends.

    `raise_server_exceptions` is off: a 500 is an answer, as it is for users.
    """
    with contextlib.ExitStack() as stack:

        def make(engine, **settings):
            return stack.enter_context(open_client(engine, **settings))

        yield make


@pytest.fixture(scope="session")
def client(engine) -> Iterator:
    """A client of one app with the real networks and default limits, shared by all tests."""
    with open_client(engine, models=None) as opened:
        yield opened


@contextlib.contextmanager
def open_client(engine, **settings):
    """Open a client of an app with a data folder of its own: no two apps share their jobs."""
    # Imported late: tests of training need neither the app nor what it imports.
    from starlette.testclient import TestClient

    from service.app import create_app
    from service.settings import Settings

    with tempfile.TemporaryDirectory(prefix="matting-test-") as folder:
        own = TEST_SETTINGS | {"data_dir": folder} | settings
        app = create_app(Settings(**own), engine)
        with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
            yield client


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LiveServer]]:
    """Return `live_server(**settings)`: a real server process, shared by equal calls of a module.

    At the end every server that still runs gets SIGTERM and must exit with 0.
    """
    servers: dict[tuple, LiveServer] = {}

    def start(**settings: object) -> LiveServer:
        key = tuple(sorted(settings.items()))
        if key not in servers or not servers[key].is_alive():
            folder = tmp_path_factory.mktemp("server")
            own = {"data_dir": folder} | settings
            servers[key] = start_live_server(folder / "log", **own)
        return servers[key]

    yield start
    running = [server for server in servers.values() if server.is_alive()]
    try:
        for server in running:
            code = server.stop()
            assert code == 0, f"exit code {code}:\n{server.log.read_text()}"
    finally:
        for server in running:
            server.process.kill()
            server.process.wait()


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
