"""Sessions that were opened, used and abandoned leave nothing behind."""

import functools
import gc
import time
import weakref
from pathlib import Path

import httpx
import pytest

from service.sessions.answers import PREFIX
from service.sessions.store import SWEEP_S, SessionStore
from tests.clips import picture
from tests.fakes import FakeEngine
from tests.helpers import encode, read_metric, wait_until
from tests.memory import count_bytes
from tests.sessions import Clock, SessionClient
from tests.tiny_network import export_tiny

PICTURES = [encode(picture(index, (320, 240)), "JPEG") for index in range(3)]
MAX_DIFFERENCE_BYTES = 32 * 2**20


def test_abandoned_sessions_free_memory_and_disk(
    make_client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    timed = functools.partial(SessionStore, clock=clock)
    monkeypatch.setattr("service.app.SessionStore", timed)
    client = make_client(FakeEngine(), data_dir=tmp_path, max_sessions_per_key=32)
    sessions = [
        SessionClient(client, packaging=("fmp4", "frames")[index % 2]) for index in range(20)
    ]
    for session in sessions:
        session.send(PICTURES)
    assert read_metric(client, "matting_sessions_active") == 20
    assert read_metric(client, "matting_session_buffer_bytes") > 20 * 320 * 240 * 3
    store = client.app.state.services.sessions
    inside = store.find("anonymous", sessions[0].opened["id"])
    encoder, frame = map(weakref.ref, (inside.encoder, inside.state.segment.delay.pending[1].frame))
    assert len(list_files(tmp_path)) == 20
    clock.now_s += 61
    del inside
    gc.disable()  # memory is to be free at once
    try:
        assert sessions[0].get().status_code == 410
    finally:
        gc.enable()
    assert encoder() is None and frame() is None
    assert read_metric(client, "matting_sessions_active") == 0
    assert read_metric(client, "matting_session_buffer_bytes") == 0
    assert store.answers.size_bytes == 0 and list_files(tmp_path) == []


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{PREFIX}*/*") if path.name != "lock"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_what_it_was_after_200_sessions(live_server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    server = live_server(
        model_path=export_tiny(tmp_path / "tiny.onnx"),
        data_dir=data,
        max_sessions=25,
        max_sessions_per_key=25,
        session_idle_s=2,
    )
    with httpx.Client(base_url=server.url, timeout=60) as client:

        def abandon_25() -> int:
            """Return the memory once 25 sessions were used, have expired and were swept out."""
            for index in range(25):
                session = SessionClient(client, packaging=("fmp4", "frames")[index % 2])
                session.send(PICTURES)
            wait_until(lambda: read_metric(client, "matting_sessions_active") == 0, 30)
            assert list_files(data) == []
            end_s = time.monotonic() + SWEEP_S + 1
            samples = [count_bytes(server)]
            wait_until(
                lambda: samples.append(count_bytes(server)) or time.monotonic() > end_s, SWEEP_S + 5
            )
            return min(samples)

        base = abandon_25()  # with what the first ones ever cost: imports, threads, a child
        after = [abandon_25() for _ in range(8)]
    megabytes = ", ".join(f"{used / 2**20:.0f}" for used in (base, *after))
    print(f"MiB after 25, 50 ... 225 sessions: {megabytes}")
    assert after[-1] - base < MAX_DIFFERENCE_BYTES, megabytes
