"""Memory of a video request, and of a job, does not depend on the length of the clip."""

import hashlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.clips import make_clip
from tests.helpers import LiveServer, wait_until
from tests.memory import count_bytes
from tests.tiny_network import export_tiny

MAX_DIFFERENCE_BYTES = 50 * 2**20
SAMPLE_EVERY_S = 0.02
JOB_TIMEOUT_S = 1200
Send = Callable[[LiveServer, bytes], None]


def count_resident_bytes(server: LiveServer) -> int:
    """Return the resident memory of the service alone."""
    return psutil.Process(server.pid).memory_info().rss


def measure_peak(
    server: LiveServer,
    clip: bytes,
    send: Send,
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


def send_request(
    server: LiveServer, clip: bytes, outputs: str = "composite", behind: bytes | None = None
) -> None:
    files = {"file": clip} | ({"background_file": behind} if behind else {})
    url = f"{server.url}/v1/video?outputs={outputs}"
    with httpx.stream("POST", url, files=files, timeout=250) as answer:
        for _ in answer.iter_raw():
            pass
    assert answer.status_code == 200


def send_job(server: LiveServer, clip: bytes) -> None:
    """Have a clip matted as a job and fetch its result."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        headers = {"Prefer": "respond-async"}
        answer = client.post("/v1/video", files={"file": clip}, headers=headers)
        path = answer.headers["location"]

        def find_end() -> dict | None:
            job = client.get(path).json()
            return None if job["state"] in ("queued", "running") else job

        job = wait_until(find_end, JOB_TIMEOUT_S, every_s=0.5)
        assert job["state"] == "succeeded", job
        (result,) = job["results"]
        content = client.get(result["url"]).content
    assert hashlib.sha256(content).hexdigest() == result["sha256"]


def make_clips(folder: Path, lengths_s: tuple[int, int], size: tuple[int, int]) -> list[bytes]:
    """Return a short clip and a long one."""
    return [
        make_clip(folder / f"{seconds}.mp4", seconds=seconds, fps=12, size=size).read_bytes()
        for seconds in lengths_s
    ]


def compare_peaks(
    server: LiveServer,
    clips: list[bytes],
    send: Send,
    count: Callable[[LiveServer], int] = count_bytes,
    every_s: float = SAMPLE_EVERY_S,
) -> None:
    send(server, clips[0])  # what the first clip ever costs: imports, threads, buffers
    short, long = (measure_peak(server, clip, send, count, every_s) for clip in clips)
    megabytes = f"short: {short / 2**20:.0f} MiB, long: {long / 2**20:.0f} MiB"
    print(megabytes)
    assert long - short < MAX_DIFFERENCE_BYTES, megabytes


def test_peak_memory_of_ten_seconds_is_that_of_four(live_server, tmp_path: Path) -> None:
    # Shorter than four seconds, 48 frames, a clip does not fill x264's lookahead.
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    compare_peaks(server, make_clips(tmp_path, (4, 10), (640, 360)), send_request)


def test_memory_after_many_clips_is_that_after_a_few(live_server, tmp_path: Path) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    path = make_clip(tmp_path / "clip.mp4", seconds=1, fps=12, size=(640, 360))
    clip, after = path.read_bytes(), []
    for _ in range(7):
        send_request(server, clip)
        after.append(count_bytes(server))
    megabytes = [count >> 20 for count in after]
    assert after[-1] - after[2] < MAX_DIFFERENCE_BYTES, megabytes


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("outputs", ["webm", "prores", "frames", "green", "a clip behind"])
def test_no_output_takes_memory_by_the_second(live_server, tmp_path: Path, outputs: str) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = make_clips(tmp_path, (3, 30), (320, 180))
    send = partial(send_request, outputs=outputs)
    if outputs == "a clip behind":
        send = partial(send_request, behind=clips[0])
    compare_peaks(server, clips, send)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_job_of_ten_minutes_takes_the_memory_of_one_of_ten_seconds(live_server, tmp_path) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = make_clips(tmp_path, (10, 600), (640, 360))
    compare_peaks(server, clips, send_job, count_resident_bytes, every_s=0.1)
