"""Loading PyMatting, which compiles for a minute the first time: who waits, and who is told."""

import asyncio
import os
import threading

import numpy as np
import pytest

from service.errors import NotReady
from service.fine import FineMatting, place_cache
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, post_image, wait_until

PICTURE = encode(np.full((64, 64, 3), 90, np.uint8), "PNG")


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The extra, whether this machine has it or not."""
    monkeypatch.setattr("service.fine.is_installed", lambda: True)


def test_it_is_loaded_once_and_by_the_first_who_asks(tmp_path):
    calls = []
    fine = FineMatting(tmp_path, load=lambda: calls.append(threading.current_thread().daemon))

    async def ask() -> None:
        assert fine.state == "unused"
        await asyncio.gather(fine.load(), fine.load())
        await fine.load()
        assert fine.state == "ready"

    asyncio.run(ask())
    assert calls == [True]


def test_requests_are_told_to_come_again_while_it_compiles(make_client, tmp_path):
    compiled = threading.Event()
    client = make_client(FakeEngine())
    runtime = client.app.state.services.runtime
    slow = FineMatting(tmp_path, load=compiled.wait, wait_s=0)
    object.__setattr__(runtime, "fine", slow)

    def read_state() -> str:
        return client.get("/readyz?verbose").json()["refine_fine"]

    assert read_state() == "unused"
    answer = post_image(client, PICTURE, refine="fine")
    assert "compiled" in assert_problem(answer, 503, "not-ready")["detail"]
    assert int(answer.headers["retry-after"]) >= 1 and read_state() == "loading"
    assert post_image(client, PICTURE).status_code == 200, "others go on"
    assert runtime.gate.fine_requests == 0
    compiled.set()
    wait_until(lambda: read_state() == "ready", 30)


def test_load_that_fails_is_told(tmp_path):
    def fail() -> None:
        raise RuntimeError("cannot cache function: no locator available")

    fine = FineMatting(tmp_path, load=fail)

    async def ask() -> None:
        for _ in range(2):
            with pytest.raises(NotReady, match="cannot be loaded"):
                await fine.load()
        assert fine.state == "failed"

    asyncio.run(ask())


def test_compiled_code_goes_to_the_data_folder_where_the_package_is_read_only(
    tmp_path, monkeypatch
):
    pytest.importorskip("pymatting")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    place_cache(tmp_path)
    assert "NUMBA_CACHE_DIR" not in os.environ
    monkeypatch.setattr("service.fine.os.access", lambda path, mode: False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    place_cache(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == "mine", "an operator's choice stays"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    place_cache(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "numba")
