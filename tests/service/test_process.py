"""The service as a process: how it starts, tells its provider, and ends."""

import json
import signal
import urllib.error
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
    server = live_server(queue_s=60, network_max_megapixels=1.5, drain_timeout_s=120)
    slow = encode(portrait[:10], "PNG")  # 51 times as wide as high: a large network input
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(post, server.url, slow) for _ in range(3)]
        wait_until(lambda: get_json(f"{server.url}/readyz?verbose")["requests"] == 3)
        server.process.send_signal(signal.SIGTERM)
        for future in running:
            status, size = future.result()
            assert status == 200 and size > 0
        assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()


def find_status(url: str, data: bytes | None = None) -> tuple[int, dict]:
    """Send a request and return its status and JSON, whatever they are."""
    headers = {"Content-Type": "image/png"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
            return response.status, {}
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_port_stays_open_while_readiness_is_false(live_server, portrait):
    server = live_server(drain_delay_s=30)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: find_status(f"{server.url}/readyz")[0] == 503)
    status, problem = find_status(f"{server.url}/readyz")
    assert (status, problem["code"]) == (503, "draining")
    status, problem = find_status(f"{server.url}/v1/image", encode(portrait, "PNG"))
    assert (status, problem["code"]) == (503, "draining")
    assert find_status(f"{server.url}/livez")[0] == 200
    assert find_status(f"{server.url}/v1/models")[0] == 200
    server.process.kill()
    server.process.wait()


def test_request_that_is_cut_off_is_told_503(live_server, portrait):
    server = live_server(queue_s=600, drain_timeout_s=0.2)
    slow = encode(portrait[:10], "PNG")
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(find_status, f"{server.url}/v1/image", slow) for _ in range(4)]
        wait_until(lambda: get_json(f"{server.url}/readyz?verbose")["requests"] == 4, 30)
        server.process.send_signal(signal.SIGTERM)
        answers = [future.result() for future in running]
        assert server.process.wait(30) == 0
    cut_off = [problem["code"] for status, problem in answers if status != 200]
    assert cut_off and set(cut_off) == {"draining"}
    assert "Traceback" not in server.log.read_text()


def test_process_whose_network_hangs_is_not_alive_and_ends(live_server, portrait):
    # No network is fast enough for this, so the first run counts as hanging.
    server = live_server(engine_stall_s=0.001, network_max_megapixels=1.5)
    slow = encode(portrait[:10], "PNG")
    with ThreadPoolExecutor(1) as threads:
        request = threads.submit(post, server.url, slow)
        assert server.process.wait(30) == 4
        with pytest.raises(OSError):
            request.result()
    assert "the network hangs" in server.log.read_text()
