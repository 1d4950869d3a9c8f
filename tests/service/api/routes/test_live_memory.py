"""Memory of a live connection whose client reads far slower than it sends."""

import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.helpers import encode
from tests.sockets import LiveSession, receive_answer
from tests.tiny_network import export_tiny

SECONDS, FPS = 60, 30
MAX_GROWTH_BYTES = 32 * 2**20


@pytest.mark.slow
def test_memory_stays_flat_for_a_minute_while_the_client_reads_one_frame_a_second(
    live_server, tmp_path: Path
) -> None:
    server = live_server(model_path=export_tiny(tmp_path / "tiny.onnx"))
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    picture = encode(noise, "JPEG", quality=80)
    process, samples, answers = psutil.Process(server.pid), [], []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        session = LiveSession(client, output="composite", format="jpeg")
    with session.connect(max_queue=2) as socket:
        start_s = time.monotonic()
        for number in range(SECONDS * FPS):
            time.sleep(max(0.0, start_s + number / FPS - time.monotonic()))
            socket.send(picture)
            if number and number % FPS == 0:
                answers.append(receive_answer(socket).facts)
                samples.append(process.memory_info().rss)
    third = len(samples) // 3
    growth = np.median(samples[-third:]) - np.median(samples[third : 2 * third])
    print(f"growth {growth / 2**20:.1f} MiB, {answers[-1]}")
    assert growth < MAX_GROWTH_BYTES
    assert answers[-1]["dropped"] > SECONDS * FPS / 4
    assert [facts["frame"] for facts in answers] == sorted(facts["frame"] for facts in answers)
