"""Live sockets against real uvicorn: in a thread with a stand-in network, or in a process."""

import contextlib
import io
import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import uvicorn
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from service.api.protocol.server import make_config
from service.app import create_app
from service.settings import Settings
from tests.conftest import TEST_SETTINGS
from tests.helpers import START_TIMEOUT_S, wait_until
from tests.sessions import SessionClient

PROTOCOL = "matting.v1"
ANSWER_TIMEOUT_S = 20


class LiveSession(SessionClient):
    """A session of a server, whose frames go over a socket; pictures are the answers."""

    def __init__(self, client: httpx.Client, **options: object) -> None:
        super().__init__(client, **{"packaging": "frames", "output": "alpha"} | options)
        self.id, self.ticket = self.opened["id"], self.opened["ticket"]
        self.port = client.base_url.port
        self.url = f"ws://127.0.0.1:{self.port}{self.path}/live"

    def connect(self, **options: object) -> ClientConnection:
        """Connect with the ticket that came with the session."""
        return self.connect_with(self.ticket, **options)

    def connect_with(self, ticket: str, **options: object) -> ClientConnection:
        offered = [PROTOCOL, f"ticket.{ticket}"]
        return connect(self.url, subprotocols=offered, compression=None, **options)

    def renew_ticket(self) -> None:
        response = self.client.post(f"{self.path}/ticket", headers=self.headers)
        self.ticket = response.json()["ticket"]


@contextlib.contextmanager
def serve(engine, **settings: object) -> Iterator[httpx.Client]:
    """Serve an app in a thread as `python -m service` would; yield a client of it."""
    with tempfile.TemporaryDirectory(prefix="matting-test-") as folder:
        chosen = Settings(**(TEST_SETTINGS | {"port": 0, "data_dir": folder} | settings))
        server = uvicorn.Server(make_config(create_app(chosen, engine), chosen))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), START_TIMEOUT_S)
            port = server.servers[0].sockets[0].getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


@dataclass(frozen=True)
class Answer:
    """One answer: the facts and the picture."""

    facts: dict
    content: bytes

    @property
    def image(self) -> np.ndarray:
        with Image.open(io.BytesIO(self.content)) as image:
            return np.asarray(image)


def receive_facts(socket: ClientConnection) -> dict:
    text = socket.recv(ANSWER_TIMEOUT_S)
    assert isinstance(text, str), "facts come before a picture"
    return json.loads(text)


def receive_answer(socket: ClientConnection) -> Answer:
    facts = receive_facts(socket)
    assert "problem" not in facts, facts
    content = socket.recv(ANSWER_TIMEOUT_S)
    assert isinstance(content, bytes)
    return Answer(facts, content)


def read_close(socket: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason with which the service closes, whatever came before."""
    try:
        while True:
            socket.recv(ANSWER_TIMEOUT_S)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the connection broke without a close frame"
        return closed.rcvd.code, closed.rcvd.reason
