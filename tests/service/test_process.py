"""The service as a process: how it starts, tells its provider, and ends."""

import json
import os
import pty
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.inference.providers import CPU
from tests.helpers import (
    ROOT,
    encode,
    find_free_port,
    make_environ,
    run_service,
    start_live_server,
    wait_until,
)
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
    assert (
        json.loads(serving)["message"] == f"serving modnet-fast with {BEST} in {model['precision']}"
    )


def test_requests_in_progress_are_answered_before_the_end(live_server, portrait):
    server = live_server(queue_s=60, network_max_megapixels=0.8, drain_timeout_s=120)
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
    slow, url = encode(portrait, "PNG"), f"{server.url}/v1/image?ref_size=1024"
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(find_status, url, slow) for _ in range(4)]
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


def test_first_line_on_a_terminal_tells_address_model_and_device(tmp_path):
    port = find_free_port()
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env=make_environ(data_dir=tmp_path, decoders=1),
        stderr=end,
    )
    os.close(end)
    try:
        with open(terminal, errors="replace") as screen:
            line = screen.readline()
            assert get_json(f"http://127.0.0.1:{port}/readyz") == {"status": "ok"}
    finally:
        process.terminate()
        assert process.wait(40) == 0
    assert line.startswith(f"Ready: http://127.0.0.1:{port}, ")
    assert "/docs" in line and "model modnet-fast on " in line


def test_log_has_no_line_that_is_not_json(live_server):
    lines = live_server().log.read_text().splitlines()
    assert lines and all(json.loads(line)["message"] for line in lines)


def test_second_service_of_a_machine_has_a_data_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first = start_live_server(tmp_path / "first")
    try:
        second = start_live_server(tmp_path / "second")
        assert second.stop() == 0
        for port in (first.port, second.port):
            assert (tmp_path / f"matting-{port}" / "matting-jobs").is_dir()
        done = run_service(port=first.port, data_dir=None)
    finally:
        assert first.stop() == 0
    (line,) = done.stderr.splitlines()
    assert done.returncode == 3 and str(first.port) in line and "make serve PORT=" in line


def test_taken_data_folder_is_told_in_one_line(tmp_path, monkeypatch):
    """Another address of the machine, the same port: the folder is the same."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first = start_live_server(tmp_path / "first")
    try:
        done = run_service(port=first.port, host="127.0.0.2", data_dir=None)
    finally:
        assert first.stop() == 0
    (line,) = done.stderr.splitlines()
    assert done.returncode == 3 and "MATTING_DATA_DIR" in line and "make serve PORT=" in line
