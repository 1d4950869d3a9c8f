"""The service as a process: how it starts, tells its provider, and ends."""

import json
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.inference.providers import cuda_unavailable_reason
from tests.helpers import encode, wait_until


def get_json(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def post(url: str, data: bytes) -> tuple[int, int]:
    """Send one image; return the status and the bytes of the answer."""
    headers = {"Content-Type": "image/png"}
    request = urllib.request.Request(f"{url}/v1/image", data, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.status, len(response.read())


@pytest.mark.skipif(cuda_unavailable_reason() is None, reason="CUDA is there")
def test_fall_back_to_the_cpu_is_told_by_the_default_start(live_server):
    server = live_server()
    (model,) = get_json(f"{server.url}/v1/models")["models"]
    ready = get_json(f"{server.url}/readyz?verbose")["model"]
    for answer in (model, ready):
        assert answer["provider"] == "CPUExecutionProvider"
        assert "CUDA" in answer["provider_note"]
    assert "running on the CPU" in server.log.read_text()


def test_requests_in_progress_are_answered_before_the_end(live_server, portrait):
    server = live_server(queue_s=60, network_max_megapixels=1.5, drain_timeout_s=30)
    slow = encode(portrait[:10], "PNG")  # 51 times as wide as high: a large network input
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(post, server.url, slow) for _ in range(3)]
        wait_until(lambda: get_json(f"{server.url}/readyz?verbose")["requests"] == 3)
        server.process.send_signal(signal.SIGTERM)
        start_s = time.monotonic()
        for future in running:
            status, size = future.result()
            assert status == 200 and size > 0
        assert server.process.wait(20) == 0
    assert time.monotonic() - start_s < 25
    assert "Traceback" not in server.log.read_text()
