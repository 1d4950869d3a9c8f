"""Memory of a video request, and of a job, does not depend on the length of the clip."""

import hashlib
import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.clips import make_clip
from tests.helpers import LiveServer, wait_until
from tests.memory import count_bytes
from tests.tiny_network import export_tiny

MAX_DIFFERENCE_BYTES = 50 * 2**20
SAMPLE_EVERY_S = 0.02
JOB_TIMEOUT_S = 1200


def measure_peak(
    server: LiveServer,
    clip: bytes,
    send: Callable[[LiveServer, bytes], None],
    count: Callable[[LiveServer], int] = count_bytes,
    every_s: float = SAMPLE_EVERY_S,
) -> int:
    """Return the highest memory, in bytes, while `send` has a clip matted."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(every_s):
            peak = max(peak, count(server))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        send(server, clip)
    finally:
        done.set()
        thread.join()
    return peak


def call(server: LiveServer, method: str, path: str, body: bytes | None = None, **headers: str):
    """Return the status and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=250)
    connection.request(method, path, body, {"Content-Type": "video/mp4"} | headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def send_request(server: LiveServer, clip: bytes) -> None:
    status, content = call(server, "POST", "/v1/video", clip)
    assert status == 200, content


def send_job(server: LiveServer, clip: bytes) -> None:
    """Have a clip matted as a job and fetch its result."""
    status, content = call(server, "POST", "/v1/video", clip, Prefer="respond-async")
    assert status == 202, content
    path = f"/v1/jobs/{json.loads(content)['id']}"

    def find_end() -> dict | None:
        job = json.loads(call(server, "GET", path)[1])
        return None if job["state"] in ("queued", "running") else job

    job = wait_until(find_end, JOB_TIMEOUT_S, every_s=0.5)
    assert job["state"] == "succeeded", job
    (result,) = job["results"]
    status, content = call(server, "GET", result["url"])
    assert status == 200 and hashlib.sha256(content).hexdigest() == result["sha256"]


def count_resident_bytes(server: LiveServer) -> int:
    """Return the resident memory of the service alone."""
    return psutil.Process(server.pid).memory_info().rss


def test_peak_memory_of_a_minute_is_that_of_six_seconds(live_server, tmp_path: Path) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = {
        seconds: make_clip(
            tmp_path / f"{seconds}.mp4", seconds=seconds, fps=12, size=(480, 270)
        ).read_bytes()
        for seconds in (6, 60)
    }
    send_request(server, clips[6])  # what the first clip ever costs: imports, threads, buffers
    short, long = (measure_peak(server, clips[seconds], send_request) for seconds in (6, 60))
    megabytes = f"6 s: {short / 2**20:.0f} MiB, 60 s: {long / 2**20:.0f} MiB"
    print(megabytes)
    assert long - short < MAX_DIFFERENCE_BYTES, megabytes


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_job_of_ten_minutes_takes_the_memory_of_one_of_ten_seconds(live_server, tmp_path) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = {
        seconds: make_clip(
            tmp_path / f"{seconds}.mp4", seconds=seconds, fps=12, size=(640, 360)
        ).read_bytes()
        for seconds in (10, 600)
    }
    send_job(server, clips[10])
    short, long = (
        measure_peak(server, clips[seconds], send_job, count_resident_bytes, every_s=0.1)
        for seconds in (10, 600)
    )
    megabytes = f"10 s: {short / 2**20:.0f} MiB, 10 min: {long / 2**20:.0f} MiB"
    print(megabytes)
    assert long - short < MAX_DIFFERENCE_BYTES, megabytes
