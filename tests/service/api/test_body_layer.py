"""Bytes on a real connection: what is refused, when, and how much was read before."""

import json
import socket
import time

import psutil
import pytest

from tests.fakes import FakeEngine
from tests.helpers import RawConnection, assert_problem, connect, encode, post_image, wait_until
from tests.sockets import serve

KEY = "alpha-key-1234"
LIMIT = 100_000
FRAMING = 64 * 1024
POST = "POST /v1/image"
AUTH = {"X_API_Key": KEY, "Content_Type": "image/png"}


@pytest.fixture(scope="module")
def server(live_server):
    return live_server(
        api_keys=KEY,
        image_max_bytes=LIMIT,
        body_idle_timeout_s=1,
        body_min_bytes_per_s=0,
        image_body_timeout_s=3,
    )


@pytest.fixture
def raw(server):
    with connect(server.port) as connection:
        yield connection


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:40, :40], "PNG")


def assert_raw_problem(response, status: int, code: str) -> dict:
    assert response.status == status, response
    assert response.headers["content-type"] == "application/problem+json"
    problem = json.loads(response.body)
    assert problem["code"] == code
    assert problem["instance"] == response.headers["x-request-id"]
    return problem


def send_chunk(connection: RawConnection, data: bytes) -> None:
    connection.send(b"%x\r\n%s\r\n" % (len(data), data))


def test_whole_image_is_answered_and_the_connection_stays(raw, image):
    for _ in range(2):
        raw.send_head(POST, **AUTH, Content_Length=len(image))
        raw.send(image)
        response = raw.receive_response()
        assert response.status == 200 and response.headers["x-width"] == "40"


def test_chunked_image_is_answered(raw, image):
    raw.send_head(POST, **AUTH, Transfer_Encoding="chunked")
    send_chunk(raw, image[:100])
    send_chunk(raw, image[100:])
    send_chunk(raw, b"")
    assert raw.receive_response().status == 200


def test_length_over_the_limit_is_413_before_the_body(raw):
    raw.send_head(POST, **AUTH, Content_Length=10**9)
    problem = assert_raw_problem(raw.receive_response(), 413, "payload-too-large")
    assert (problem["limit"], problem["actual"]) == (LIMIT + FRAMING, 10**9)
    assert raw.is_closed_by_server()


def test_client_that_asks_first_is_told_413_and_not_to_go_on(raw):
    raw.send_head(POST, **AUTH, Content_Length=10**9, Expect="100-continue")
    assert_raw_problem(raw.receive_response(), 413, "payload-too-large")


def test_chunked_body_over_the_limit_is_413_without_its_end(raw):
    raw.send_head(POST, **AUTH, Transfer_Encoding="chunked")
    for _ in range(3):
        send_chunk(raw, bytes((LIMIT + FRAMING) // 3 + 1))
    assert_raw_problem(raw.receive_response(), 413, "payload-too-large")
    assert raw.is_closed_by_server()


@pytest.mark.parametrize("extra, status", [(0, 422), (1, 413)])
def test_limit_of_a_raw_image_is_exact(raw, extra, status):
    body = b"\x89PNG\r\n\x1a\n".ljust(LIMIT + extra, b"\0")
    raw.send_head(POST, **AUTH, Content_Length=len(body))
    raw.send(body)
    assert raw.receive_response().status == status


@pytest.mark.parametrize("extra, status", [(0, 422), (1, 413)])
def test_limit_of_a_file_in_a_form_is_exact(raw, extra, status):
    part = b"\x89PNG\r\n\x1a\n".ljust(LIMIT + extra, b"\0")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head + part + b"\r\n--b--\r\n"
    more = AUTH | {"Content_Type": "multipart/form-data; boundary=b"}
    raw.send_head(POST, **more, Content_Length=len(body))
    raw.send(body)
    assert raw.receive_response().status == status


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=b"])
def test_body_that_stops_is_408(raw, kind):
    raw.send_head(POST, **(AUTH | {"Content_Type": kind}), Content_Length=1000)
    raw.send(b"--b\r\n")
    start_s = time.monotonic()
    assert_raw_problem(raw.receive_response(), 408, "request-timeout")
    assert 0.8 < time.monotonic() - start_s
    assert raw.is_closed_by_server()


def test_body_that_trickles_is_408_at_the_end_of_its_time(raw):
    raw.send_head(POST, **AUTH, Content_Length=10**5)
    raw._socket.settimeout(0.2)
    start_s = time.monotonic()
    while True:
        try:
            raw.send(b"x")
            response = raw.receive_response()
            break
        except TimeoutError:
            assert time.monotonic() - start_s < 60
    assert_raw_problem(response, 408, "request-timeout")
    assert time.monotonic() - start_s > 2.5


def test_body_slower_than_the_least_speed_is_408():
    settings = {"body_idle_timeout_s": 0.3, "body_min_bytes_per_s": 10_000}
    with serve(FakeEngine(), **settings) as client, connect(client.base_url.port) as raw:
        raw.send_head(POST, Content_Type="image/png", Content_Length=10**5)
        raw._socket.settimeout(0.05)
        for _ in range(400):
            try:
                raw.send(b"x" * 10)
                response = raw.receive_response()
                break
            except TimeoutError:
                continue
        problem = assert_raw_problem(response, 408, "request-timeout")
        assert "10000 bytes a second" in problem["hint"]


def test_key_is_checked_before_a_byte_of_the_body(raw):
    raw.send_head(POST, Content_Length=3 * 10**8, Content_Type="image/png")
    assert_raw_problem(raw.receive_response(), 401, "unauthorized")


def test_key_is_checked_before_the_client_is_told_to_go_on(raw):
    raw.send_head(POST, Content_Length=1000, Content_Type="image/png", Expect="100-continue")
    assert_raw_problem(raw.receive_response(), 401, "unauthorized")


def test_large_body_without_a_key_costs_no_memory_and_no_disk(server, raw):
    """What arrives after the 401 is thrown away or the connection ends; nothing is kept."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    raw.send_head(POST, Content_Length=3 * 10**7, Content_Type="image/png")
    assert raw.receive_response().status == 401
    try:
        for _ in range(30):
            raw.send(bytes(10**6))
    except OSError:
        pass  # closed: just as well
    assert process.memory_info().rss - before < 8 << 20
    assert not [file for file in process.open_files() if "tmp" in file.path.split("/")[-1]]


def test_header_bombs_are_refused_and_the_service_lives(server):
    for head in (
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10**6,
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 20_000,
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nBad Header: a\r\n\r\n",
    ):
        with connect(server.port) as connection:
            try:
                connection.send(head)
                assert connection._socket.recv(64)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
            except ConnectionError:
                pass  # closed while we were sending
    assert server.is_ready()


def test_client_that_sends_nothing_does_not_stop_others(server, image):
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    try:
        assert server.is_ready()
    finally:
        for connection in idle:
            connection.close()


def test_log_is_json_lines_without_the_key(server, raw, image):
    raw.send_head(POST, **AUTH, X_Request_ID="find-me", Content_Length=len(image))
    raw.send(image)
    raw.receive_response()
    text = wait_until(lambda: (log := server.log.read_text()).count("find-me") and log)
    assert KEY not in text
    (entry,) = [e for e in map(json.loads, text.splitlines()) if e.get("request_id") == "find-me"]
    assert entry["route"] == "/v1/image" and entry["status"] == 200 and entry["duration_ms"] > 0


# The same layer without a network in between.


@pytest.fixture(scope="module")
def fake_client():
    from tests.conftest import open_client

    with open_client(FakeEngine()) as opened:
        yield opened


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Encoding", "gzip")],
        [("Content-Encoding", "br")],
        [("Content-Encoding", "identity, gzip")],
        [("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")],
    ],
)
def test_encoded_body_is_415(fake_client, image, headers):
    all_headers = [("Content-Type", "image/png"), *headers]
    response = fake_client.post("/v1/image", content=image, headers=all_headers)
    assert_problem(response, 415, "unsupported-media")


@pytest.mark.parametrize("value", ["identity", "Identity"])
def test_identity_is_no_encoding(fake_client, image, value):
    headers = {"Content-Type": "image/png", "Content-Encoding": value}
    assert fake_client.post("/v1/image", content=image, headers=headers).status_code == 200


def test_image_under_the_limit_is_answered(fake_client, image):
    assert post_image(fake_client, image).status_code == 200
