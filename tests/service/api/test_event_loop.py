"""The event loop never works on pixels: no step of it takes over 100 ms of CPU time.

CPU time of its thread, not time: another process cannot make this test fail. Nor can what other
tests left in memory: the collector leaves it out, as it does in the service what is loaded.
"""

import asyncio
import base64
import contextlib
import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from tests.clips import make_clip
from tests.conftest import open_client
from tests.fakes import FakeEngine
from tests.helpers import encode, wait_until
from tests.sockets import LiveSession, read_close, serve

LIMIT_S = 0.1


@contextlib.contextmanager
def watch_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Collect the steps of all event loops that take too long, by what they run."""
    slow: dict[str, float] = {}
    run = asyncio.Handle._run

    def run_and_measure(handle: asyncio.Handle) -> None:
        start_s = time.thread_time()
        run(handle)
        used_s = time.thread_time() - start_s
        if used_s > LIMIT_S and "run_sync_from_thread" not in repr(handle):  # the test client's
            slow[repr(handle)[:300]] = used_s

    gc.collect()
    gc.freeze()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", run_and_measure)
        yield slow


@pytest.fixture(scope="module")
def large() -> bytes:
    """A picture of 16 megapixels whose transparent half makes it costly to lay over white."""
    pixels = np.zeros((4000, 4000, 4), np.uint8)
    pixels[:2000, :, 3] = 255
    return encode(pixels, "PNG", compress_level=1)


@pytest.fixture(scope="module")
def opened():
    with open_client(FakeEngine(), request_timeout_s=600, video_timeout_s=600) as client:
        yield client


@pytest.fixture(scope="module")
def small(portrait) -> bytes:
    return encode(portrait[::4, ::4], "PNG")


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=6, size=(64, 48)).read_bytes()


def test_watcher_sees_what_holds_up_a_loop(monkeypatch) -> None:
    async def hold_up() -> None:
        end_s = time.thread_time() + 2 * LIMIT_S
        while time.thread_time() < end_s:
            pass

    with watch_loops(monkeypatch) as slow:
        asyncio.run(hold_up())
    assert len(slow) == 1


def test_large_image_and_everything_made_of_it(opened, large, monkeypatch) -> None:
    with watch_loops(monkeypatch) as slow:
        options = {"keep_s": 60, "size": "preview"}
        headers = {"Content-Type": "image/png"}
        kept = opened.post("/v1/image", content=large, params=options, headers=headers)
        assert kept.status_code == 200, kept.text
        path = f"/v1/image/{kept.headers['x-result-id']}"
        again = opened.post(path, data={"output": "cutout"})
        assert again.status_code == 200, again.text
    assert not slow


def test_large_background(opened, small, large, monkeypatch) -> None:
    files = {"file": small, "background_file": large}
    with watch_loops(monkeypatch) as slow:
        response = opened.post("/v1/image", files=files, data={"output": "composite"})
        assert response.status_code == 200, response.text
    assert not slow


def test_large_json(opened, large, monkeypatch) -> None:
    body = json.dumps({"image_b64": base64.b64encode(large).decode(), "output": "cutout"})
    with watch_loops(monkeypatch) as slow:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        assert opened.post("/v1/image", content=body, headers=headers).status_code == 200
    assert not slow


def test_batch_with_a_large_background(opened, small, large, monkeypatch) -> None:
    files = [("file", small), ("file", small), ("background_file", large)]
    with watch_loops(monkeypatch) as slow:
        response = opened.post("/v1/image", files=files, data={"output": "composite"})
        assert response.status_code == 200, response.text
    assert not slow


def test_other_dialects(opened, small, large, monkeypatch) -> None:
    with watch_loops(monkeypatch) as slow:
        files = {"image_file": small, "bg_image_file": large}
        assert opened.post("/v1.0/removebg", files=files).status_code in (200, 400)
        assert opened.post("/api/remove", files={"file": large}).status_code == 200
    assert not slow


def test_clip_before_a_large_background(opened, clip, large, monkeypatch) -> None:
    files = {"file": clip, "background_file": large}
    with watch_loops(monkeypatch) as slow:
        response = opened.post("/v1/video", files=files)
        assert response.status_code == 200, response.text
        job = opened.post("/v1/video", files=files, headers={"Prefer": "respond-async"})
        assert job.status_code == 202, job.text
        path = f"/v1/jobs/{job.json()['id']}"
        wait_until(lambda: opened.get(path).json()["state"] == "succeeded", 60)
    assert not slow


def test_chunks_of_a_session(opened, small, monkeypatch) -> None:
    frames = [("frame", encode(np.zeros((2000, 3000, 3), np.uint8), "PNG"))] * 3
    with watch_loops(monkeypatch) as slow:
        session = opened.post("/v1/sessions", json={"packaging": "frames"}).json()
        path = f"/v1/sessions/{session['id']}"
        response = opened.put(f"{path}/chunks/0", files=frames)
        assert response.status_code == 200, response.text
        assert opened.post(f"{path}/finish").status_code == 200
    assert not slow


def test_flood_of_tiny_frames(monkeypatch) -> None:
    flood = Frame(Opcode.BINARY, b"").serialize(mask=True) * 60_000
    with serve(FakeEngine()) as client, watch_loops(monkeypatch) as slow:
        with LiveSession(client).connect() as socket:
            socket.socket.sendall(flood)
            socket.send("no frame")
            assert read_close(socket)[0] == 1003
    assert not slow
