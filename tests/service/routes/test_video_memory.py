"""Memory of a video request does not depend on the length of the clip."""

import http.client
import threading
from pathlib import Path

from tests.clips import make_clip
from tests.helpers import LiveServer, count_bytes
from tests.tiny_network import export_tiny

MAX_DIFFERENCE_BYTES = 50 * 2**20
SAMPLE_EVERY_S = 0.02


def measure_peak(server: LiveServer, clip: bytes) -> int:
    """Return the highest memory, in bytes, while a clip is matted."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_EVERY_S):
            peak = max(peak, count_bytes(server))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=250)
        connection.request("POST", "/v1/video", clip, {"Content-Type": "video/mp4"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
    finally:
        done.set()
        thread.join()
    assert answer.status == 200, content
    return peak


def test_peak_memory_of_a_minute_is_that_of_six_seconds(live_server, tmp_path: Path) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = {
        seconds: make_clip(
            tmp_path / f"{seconds}.mp4", seconds=seconds, fps=12, size=(480, 270)
        ).read_bytes()
        for seconds in (6, 60)
    }
    measure_peak(server, clips[6])  # what the first clip ever costs: imports, threads, buffers
    short, long = measure_peak(server, clips[6]), measure_peak(server, clips[60])
    megabytes = f"6 s: {short / 2**20:.0f} MiB, 60 s: {long / 2**20:.0f} MiB"
    print(megabytes)
    assert long - short < MAX_DIFFERENCE_BYTES, megabytes
