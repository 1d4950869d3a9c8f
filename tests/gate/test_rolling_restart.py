"""Two processes replaced one after the other under load: no request fails.

The clients do what a proxy does: an attempt that is refused, or answered 503 `draining`, which
means that nothing was done, goes to the other process.
"""

import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from tests.gate.figures import choose, follow, report
from tests.gate.mutants import make_images
from tests.helpers import LiveServer, start_live_server


class Fleet:
    """Two servers and what came of the requests to them."""

    def __init__(self) -> None:
        self.servers: list[LiveServer] = []
        self.answered = 0
        self.retried = 0
        self.failed: list[object] = []
        self.is_over = threading.Event()

    def send(self, image: bytes) -> None:
        """Send one image, to the other process if need be."""
        for server in [*self.servers, *self.servers]:
            status, problem = ask(server, image)
            if status == 200:
                self.answered += 1
                return
            if status not in (0, 503, 429):
                break
            if status == 503 and problem["code"] != "draining":
                break
            self.retried += 1
        self.failed.append((status, problem))

    def keep_sending(self, image: bytes) -> None:
        while not self.is_over.is_set():
            self.send(image)
            time.sleep(0.02)


def ask(server: LiveServer, image: bytes) -> tuple[int, dict]:
    """Return status and problem of an answer; 0 when the port is closed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.connect()
    except ConnectionRefusedError:
        return 0, {}
    try:
        headers = {"Content-Type": "image/png", "Connection": "close"}
        connection.request("POST", "/v1/image?ref_size=64", image, headers)
        response = connection.getresponse()
        content = response.read()
        return response.status, {} if response.status == 200 else json.loads(content)
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_request_fails_while_processes_are_replaced(tmp_path: Path) -> None:
    image, restarts, fleet = make_images()["PNG"], choose(2, 20), Fleet()

    def start(number: int) -> LiveServer:
        data_dir = tmp_path / f"data-{number % 2}"
        data_dir.mkdir(exist_ok=True)
        settings = {"data_dir": data_dir, "drain_delay_s": 0.5}
        return start_live_server(tmp_path / f"log-{number}", **settings)

    logs = []
    try:
        fleet.servers = [start(0), start(1)]
        clients = [threading.Thread(target=fleet.keep_sending, args=(image,)) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            for number in follow(range(restarts), restarts, "restarts"):
                place = number % 2
                old = fleet.servers[place]
                assert old.stop() == 0, old.log.read_text()
                logs.append(old.log.read_text())
                fleet.servers[place] = start(number + 2)
        finally:
            fleet.is_over.set()
            for client in clients:
                client.join()
    finally:
        for server in fleet.servers:
            server.stop()
    report(
        "rolling restart",
        {
            "restarts": restarts,
            "requests": fleet.answered,
            "sent to the other process": fleet.retried,
            "failed": len(fleet.failed),
        },
    )
    assert not fleet.failed and fleet.answered > 10 * restarts
    assert not any("Traceback" in log for log in logs)
