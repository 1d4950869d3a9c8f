"""Sockets of peers that no WebSocket library makes: dead, deaf, flooding."""

import contextlib
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from service.api.protocol.socket import MAX_FRAGMENTS
from tests.fakes import FakeEngine
from tests.helpers import encode, read_metric, wait_until
from tests.sessions import number_picture
from tests.sockets import LiveSession, read_close, serve

PING_S = 0.2
NOISE = encode(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8), "PNG")


class RawPeer:
    """A client that does only what it is told; it holds few bytes that it has not read."""

    def __init__(self, session: LiveSession) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", session.port))
        head = (
            f"GET {session.path}/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: matting.v1, ticket.{session.ticket}\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        assert b" 101 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass

    def send(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
        self.send_bytes(Frame(opcode, data, fin).serialize(mask=True))

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> tuple[Opcode, bytes] | None:
        """Return the next frame, None at the end."""
        start = self._file.read(2)
        if len(start) < 2:
            return None
        length = start[1]
        if length >= 126:
            length = int.from_bytes(self._file.read(2 if length == 126 else 8))
        return Opcode(start[0] & 15), self._file.read(length)

    def read_until(self, opcode: Opcode) -> tuple[bytes, list[Opcode]]:
        """Return the payload of the next frame of a kind, and the kinds that came before it."""
        before = []
        while (frame := self.read()) is not None and frame[0] != opcode:
            before.append(frame[0])
        assert frame is not None, f"the connection ended after {before}"
        return frame[1], before

    def was_reset(self) -> bool:
        """Say whether the other side is gone; what it has not read is lost."""
        try:
            self.send(Opcode.PING, b"")
        except ConnectionError:
            return True
        return False

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    monkeypatch.setattr("service.api.protocol.socket.LAST_BYTES_S", 0.1)
    with serve(FakeEngine(), socket_ping_s=PING_S) as client:
        yield client


@pytest.fixture(scope="module")
def patient() -> Iterator:
    with serve(FakeEngine()) as client:
        yield client


@pytest.fixture
def session(site) -> LiveSession:
    return LiveSession(site, output="cutout", smoothing="off")


@pytest.fixture
def peer(session: LiveSession) -> Iterator[RawPeer]:
    peer = RawPeer(session)
    session.renew_ticket()
    yield peer
    peer.close()


def is_free(session: LiveSession) -> bool:
    """Say whether a new connection gets the session."""
    session.renew_ticket()
    with session.connect() as socket:
        with contextlib.suppress(ConnectionClosed):
            socket.send("no frame")
        return read_close(socket)[0] == 1003


def read_code(payload: bytes) -> int:
    return int.from_bytes(payload[:2])


def test_half_open_peer_is_dropped_after_a_ping_without_answer(peer, session) -> None:
    peer.read_until(Opcode.PING)
    payload, before = peer.read_until(Opcode.CLOSE)
    assert read_code(payload) == 1011 and before == []
    assert peer.read() is None
    assert is_free(session)


def test_peer_that_is_heard_stays_though_its_pongs_are_late(peer) -> None:
    for _ in range(5):
        peer.read_until(Opcode.PING)
        peer.send(Opcode.PING, b"here")
    peer.send(Opcode.TEXT, b"no frame")
    payload, _ = peer.read_until(Opcode.CLOSE)
    assert read_code(payload) == 1003


def test_peer_that_falls_silent_with_answers_unread_is_let_go(peer, session) -> None:
    for _ in range(100):
        peer.send(Opcode.BINARY, NOISE)
    wait_until(lambda: is_free(session))
    wait_until(peer.was_reset)


def test_peer_that_sends_and_never_reads_is_let_go(peer, session) -> None:
    def is_let_go() -> bool:
        peer.send(Opcode.BINARY, NOISE)
        return is_free(session)

    wait_until(is_let_go)
    wait_until(peer.was_reset)


def test_pings_of_a_peer_that_does_not_read_are_not_hoarded(patient) -> None:
    pings = 5000
    peer = RawPeer(LiveSession(patient, output="cutout", smoothing="off"))
    peer.send(Opcode.BINARY, number_picture(1))
    flood = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 100
    for _ in range(pings // 100):
        peer.send_bytes(flood)
    peer.send(Opcode.BINARY, number_picture(2))
    # The second frame shows that all pings were seen.
    wait_until(lambda: read_metric(patient, "matting_frames_total", kind="live") == 2)
    peer.send(Opcode.TEXT, b"the end")
    _, before = peer.read_until(Opcode.CLOSE)
    peer.close()
    assert 0 < before.count(Opcode.PONG) < pings * 0.7


def test_message_in_very_many_fragments_closes_with_1008(peer, session) -> None:
    peer.send(Opcode.BINARY, b"x", fin=False)
    with contextlib.suppress(ConnectionError):
        for _ in range(MAX_FRAGMENTS + 1):
            peer.send(Opcode.CONT, b"", fin=False)
    payload, _ = peer.read_until(Opcode.CLOSE)
    assert read_code(payload) == 1008
    assert is_free(session)


def test_message_over_the_limit_is_refused_by_its_header_without_a_reset(patient) -> None:
    session = LiveSession(patient)
    peer = RawPeer(session)
    message = Frame(Opcode.BINARY, bytes(3 * 2**20)).serialize(mask=True)
    peer.send_bytes(message[:1000])
    payload, _ = peer.read_until(Opcode.CLOSE)
    assert read_code(payload) == 1009
    for start in range(1000, len(message), 2**18):
        peer.send_bytes(message[start : start + 2**18])
    peer.close()
    session.renew_ticket()
    assert is_free(session)
