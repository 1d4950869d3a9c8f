"""Connections that say nothing, too little, too much or nonsense."""

import json
import socket
import time

import pytest

from service.api.protocol.http import find_hosts, split_host
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.helpers import RawConnection, connect
from tests.sessions import number_picture
from tests.sockets import LiveSession, receive_answer, serve

HEADER_TIMEOUT_S = 0.3
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def site():
    with serve(FakeEngine(), header_timeout_s=HEADER_TIMEOUT_S, send_timeout_s=0.3) as client:
        yield client


@pytest.fixture(scope="module")
def patient():
    with serve(FakeEngine(), api_keys="key-1") as client:
        yield client


def read_problem(connection: RawConnection, status: int, code: str) -> dict:
    response = connection.receive_response()
    assert response.status == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = json.loads(response.body)
    assert problem["code"] == code and problem["instance"]
    return problem


def test_connection_that_says_nothing_is_closed(site) -> None:
    with connect(site.base_url.port) as raw:
        assert raw.is_closed_by_server()


@pytest.mark.parametrize("sent", [b"G", HEAD, HEAD + b"X-A: b"], ids=["one", "line", "header"])
def test_half_a_head_is_answered_408(site, sent: bytes) -> None:
    with connect(site.base_url.port) as raw:
        raw.send(sent)
        read_problem(raw, 408, "request-timeout")
        assert raw.is_closed_by_server()


def test_head_that_trickles_has_one_deadline_in_all(site) -> None:
    with connect(site.base_url.port) as raw:
        raw.send(HEAD)
        raw._socket.settimeout(0.05)
        for _ in range(400):
            try:
                raw.send(b"X-A: b\r\n")
                assert raw._socket.recv(65536).startswith(b"HTTP/1.1 408 ")
                return
            except TimeoutError:
                continue
    raise AssertionError("it trickled for ever")


def test_kept_connection_that_begins_a_second_head_is_closed(site) -> None:
    with connect(site.base_url.port) as raw:
        raw.send(HEAD + b"\r\n")
        assert raw.receive_response().status == 200
        raw.send(b"GET /livez")
        read_problem(raw, 408, "request-timeout")


def test_body_that_nobody_reads_does_not_hold_the_connection(site) -> None:
    with connect(site.base_url.port) as raw:
        raw.send(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        assert raw.receive_response().status == 404
        raw._socket.settimeout(0.05)
        for _ in range(400):
            try:
                raw.send(b"x")
                if raw._socket.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    raise AssertionError("it trickled for ever")


def test_client_that_never_reads_its_answers_is_let_go(site) -> None:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(20)
    peer.connect(("127.0.0.1", site.base_url.port))
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with pytest.raises(ConnectionError), peer:
        for _ in range(100_000):  # pipelined: answers pile up until the service stops reading
            peer.sendall(request)


@pytest.mark.parametrize("one_write", [True, False])
def test_head_over_the_limit_is_431(patient, one_write: bool) -> None:
    with connect(patient.base_url.port) as raw:
        field = b"X-Large: " + b"x" * 1000 + b"\r\n"
        if one_write:
            raw.send(HEAD + field * 20 + b"\r\n")
        else:
            raw.send(HEAD)
            for _ in range(17):
                raw.send(field)
        problem = read_problem(raw, 431, "headers-too-large")
        assert problem["limit"] == 16384


NONSENSE = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: localhost\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    "NUL": HEAD + b"X-A: \0\r\n\r\n",
    "space before colon": HEAD + b"X-A : b\r\n\r\n",
}


@pytest.mark.parametrize("sent", NONSENSE.values(), ids=NONSENSE)
def test_malformed_request_is_a_problem_document(patient, sent: bytes) -> None:
    with connect(patient.base_url.port) as raw:
        raw.send(sent)
        read_problem(raw, 400, "bad-request")
        assert raw.is_closed_by_server()


@pytest.mark.parametrize(
    ("method", "more"),
    [
        (b"GET", b"Content-Length: 5\r\n\r\nhello"),
        (b"POST", b"Content-Length: 5\r\n\r\nhello"),
        (b"GET", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (b"GET", b"X-A: b\r\n" * 150 + b"\r\n"),
        (b"GET", b"X-A: " + b"b" * 9000 + b"\r\n\r\n"),
    ],
    ids=["body", "method", "chunks", "many headers", "long header"],
)
def test_socket_whose_head_cannot_be_read_is_answered(patient, method: bytes, more: bytes) -> None:
    with connect(patient.base_url.port) as raw:
        raw.send(method + b" /v1/sessions/x/live HTTP/1.1\r\nHost: localhost\r\n")
        raw.send(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        raw.send(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + more)
        assert "socket" in read_problem(raw, 400, "bad-request")["detail"]
        assert raw.is_closed_by_server()


def test_malformed_chunk_ends_the_connection(patient) -> None:
    with connect(patient.base_url.port) as raw:
        raw.send_head(
            "POST /v1/image",
            X_API_Key="key-1",
            Content_Type="image/jpeg",
            Transfer_Encoding="chunked",
        )
        raw.send(b"nonsense\r\n")
        read_problem(raw, 400, "bad-request")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example"])
def test_loopback_service_refuses_other_hosts(patient, host: str) -> None:
    for headers in (b"", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"):
        with connect(patient.base_url.port) as raw:
            raw.send(b"GET /livez HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host.encode(), headers))
            read_problem(raw, 421, "misdirected-request")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "[::1]:8000"])
def test_loopback_service_answers_to_its_names(patient, host: str) -> None:
    with connect(patient.base_url.port) as raw:
        raw.send(b"GET /livez HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
        assert raw.receive_response().status == 200


def test_hosts_follow_the_settings() -> None:
    assert find_hosts(Settings(host="0.0.0.0")) is None
    assert find_hosts(Settings(host="localhost")) == {"localhost", "127.0.0.1", "::1"}
    assert find_hosts(Settings(allowed_hosts="A.example, b")) == {"a.example", "b"}
    assert split_host("[::1]:80") == "::1" and split_host("B:1") == "b"


def test_live_socket_outlives_the_deadline_of_a_head(site) -> None:
    """The connection belongs to the socket's own protocol once it is upgraded."""
    session = LiveSession(site, smoothing="off")
    end_s = time.monotonic() + 4 * HEADER_TIMEOUT_S
    with session.connect() as socket:
        answers = 0
        while time.monotonic() < end_s:
            socket.send(number_picture(answers))
            assert receive_answer(socket).facts["frame"] == answers
            answers += 1
    assert answers
