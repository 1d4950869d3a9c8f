"""Memory of a video request does not depend on the length of the clip."""

import threading
from pathlib import Path

import httpx
import psutil
import pytest

from tests.clips import make_clip
from tests.helpers import LiveServer
from tests.tiny_network import export_tiny

MAX_DIFFERENCE_BYTES = 50 * 2**20
SAMPLE_EVERY_S = 0.02


def count_bytes(server: LiveServer) -> int:
    """Return the memory of the service and its decoder children, shared pages counted once."""
    service = psutil.Process(server.pid)
    total = 0
    for process in (service, *service.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def measure_peak(
    server: LiveServer, clip: bytes, outputs: str = "composite", behind: bytes | None = None
) -> int:
    """Return the highest memory, in bytes, while a clip is matted."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_EVERY_S):
            peak = max(peak, count_bytes(server))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        files = {"file": clip} | ({"background_file": behind} if behind else {})
        url = f"{server.url}/v1/video?outputs={outputs}"
        with httpx.stream("POST", url, files=files, timeout=250) as answer:
            for _ in answer.iter_raw():
                pass
    finally:
        done.set()
        thread.join()
    assert answer.status_code == 200
    return peak


def make_clips(folder: Path, lengths_s: tuple[int, int], size: tuple[int, int]) -> list[bytes]:
    """Return a short clip and a long one."""
    return [
        make_clip(folder / f"{seconds}.mp4", seconds=seconds, fps=12, size=size).read_bytes()
        for seconds in lengths_s
    ]


def test_peak_memory_of_a_minute_is_that_of_six_seconds(live_server, tmp_path: Path) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = make_clips(tmp_path, (6, 60), (480, 270))
    measure_peak(server, clips[0])  # what the first clip ever costs: imports, threads, buffers
    compare_peaks(server, clips, "composite")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("outputs", ["webm", "prores", "frames", "green", "a clip behind"])
def test_no_output_takes_memory_by_the_second(live_server, tmp_path: Path, outputs: str) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    clips = make_clips(tmp_path, (3, 30), (320, 180))
    behind = None
    if outputs == "a clip behind":
        outputs, behind = "composite", clips[0]
    measure_peak(server, clips[0], outputs, behind)
    compare_peaks(server, clips, outputs, behind)


def compare_peaks(
    server: LiveServer, clips: list[bytes], outputs: str, behind: bytes | None = None
) -> None:
    short, long = (measure_peak(server, clip, outputs, behind) for clip in clips)
    megabytes = f"short: {short / 2**20:.0f} MiB, ten times as long: {long / 2**20:.0f} MiB"
    print(megabytes)
    assert long - short < MAX_DIFFERENCE_BYTES, megabytes
