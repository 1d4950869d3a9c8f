"""Fixtures of several files of tests of routes."""

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.sessions.store import SessionStore
from tests.clips import make_clip
from tests.compat_helpers import make_picture, see_person
from tests.fakes import FakeEngine
from tests.helpers import encode
from tests.sessions import Clock


@pytest.fixture(scope="module")
def fake() -> Iterator:
    """A client of an app whose network sees a person in the middle of every picture."""
    from tests.conftest import open_client

    with open_client(FakeEngine(see_person)) as opened:
        yield opened


@pytest.fixture(scope="module")
def small() -> bytes:
    return encode(make_picture(300, 200), "PNG")


@pytest.fixture(scope="module")
def roomy() -> Iterator:
    """A client of an app with room for many sessions."""
    from tests.conftest import open_client

    with open_client(FakeEngine(), max_sessions=500, max_sessions_per_key=500) as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the sessions of every app that starts afterwards."""
    clock = Clock()
    timed = functools.partial(SessionStore, clock=clock)
    monkeypatch.setattr("service.app.SessionStore", timed)
    return clock


@pytest.fixture(scope="module")
def app() -> Iterator:
    """A client of an app with keys, which it uses the first of."""
    from tests.conftest import open_client

    with open_client(FakeEngine(), api_keys="one,two") as client:
        client.headers["X-API-Key"] = "one"
        yield client


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Half a second of a clip."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, fps=12).read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on a disk of its own, of a mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user cannot mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def fake_client():
    """An app whose network costs nothing, for files that come by the hundred."""
    from tests.conftest import open_client

    with open_client(FakeEngine()) as opened:
        yield opened
