"""The service as a process: how it starts, tells its provider, and ends."""

import json
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.inference.providers import CPU
from tests.helpers import encode, wait_until
from tests.providers import BEST, HAS_CUDA


def get_json(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def post(url: str, data: bytes) -> tuple[int, int]:
    """Send one image; return the status and the bytes of the answer."""
    headers = {"Content-Type": "image/png"}
    request = urllib.request.Request(f"{url}/v1/image", data, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.status, len(response.read())


@pytest.mark.skipif(HAS_CUDA, reason="CUDA is there")
def test_default_start_says_first_what_serves_and_why_not_something_faster(live_server):
    server = live_server()
    model = get_json(f"{server.url}/v1/models")["models"][0]
    ready = get_json(f"{server.url}/readyz?verbose")["model"]
    for answer in (model, ready):
        assert answer["provider"] == BEST and answer["precision"] in ("fp32", "bf16")
        assert "CUDA" in answer["provider_note"]
    log = server.log.read_text()
    assert ("running on the CPU" in log) == (BEST == CPU)
    serving = next(line for line in log.splitlines() if '"serving' in line)
    assert json.loads(serving)["message"] == f"serving modnet with {BEST} in {model['precision']}"


def test_requests_in_progress_are_answered_before_the_end(live_server, portrait):
    server = live_server(queue_s=60, network_max_megapixels=0.8, drain_timeout_s=120)
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
    assert time.monotonic() - start_s < 120  # it does not wait the drain time out
    assert "Traceback" not in server.log.read_text()
