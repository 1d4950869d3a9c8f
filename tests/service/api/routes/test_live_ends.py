"""What ends a live connection, and what a connection leaves behind."""

import contextlib
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, read_metric, wait_until
from tests.sessions import number_picture, read_parts
from tests.sockets import LiveSession, read_close, receive_answer, serve

PICTURES = [number_picture(number) for number in range(2)]


@pytest.fixture(scope="module")
def site() -> Iterator:
    with serve(FakeEngine(), max_sessions=99, max_sessions_per_key=99) as client:
        yield client


@pytest.fixture
def session(site) -> LiveSession:
    return LiveSession(site, smoothing="off")


def test_text_where_a_frame_is_due_closes_with_1003(session: LiveSession) -> None:
    with session.connect() as socket:
        socket.send("a frame")
        assert read_close(socket)[0] == 1003


@pytest.mark.parametrize("message", [bytes(3 * 2**20), [bytes(2**20)] * 3], ids=["one", "pieces"])
def test_message_over_the_limit_closes_with_1009(session: LiveSession, message) -> None:
    with session.connect() as socket:
        socket.send(PICTURES[0])
        receive_answer(socket)
        with contextlib.suppress(ConnectionClosed):
            socket.send(message)
        assert read_close(socket)[0] == 1009


def test_message_of_the_largest_size_is_taken(session: LiveSession) -> None:
    with session.connect() as socket:
        socket.send(PICTURES[0] + bytes(2 * 2**20 - len(PICTURES[0])))
        assert receive_answer(socket).facts["frame"] == 0


def test_app_bounds_messages_of_a_server_that_does_not(make_client) -> None:
    client = make_client(FakeEngine(), socket_message_max_bytes=1000)
    opened = client.post("/v1/sessions", json={}).json()
    with client.websocket_connect(f"/v1/sessions/{opened['id']}/live") as socket:
        socket.send_bytes(bytes(1001))
        assert socket.receive() == {
            "type": "websocket.close",
            "code": 1009,
            "reason": "a message may have 1000 bytes",
        }


@pytest.mark.parametrize(
    "limits", [{"session_idle_s": 2}, {"session_idle_s": 60, "session_max_s": 3}]
)
def test_session_whose_time_is_over_closes_with_4408_and_is_gone(limits: dict) -> None:
    with serve(FakeEngine(), **limits) as site:
        session = LiveSession(site, smoothing="off")
        with session.connect() as socket:
            socket.send(PICTURES[0])
            receive_answer(socket)
            assert read_close(socket)[0] == 4408
        assert_problem(session.get(), 410, "gone")


def test_deleted_session_closes_with_4410(session: LiveSession) -> None:
    with session.connect() as socket:
        socket.send(PICTURES[0])
        receive_answer(socket)
        assert session.delete().status_code == 204
        assert read_close(socket)[0] == 4410


def test_service_that_ends_closes_with_1012_and_exits_well(live_server) -> None:
    import httpx

    server = live_server(log_level="debug")
    with httpx.Client(base_url=server.url, timeout=60) as client:
        session = LiveSession(client)
    with session.connect() as socket:
        socket.send(PICTURES[0])
        socket.send(PICTURES[1])
        receive_answer(socket)
        code = server.stop()
        assert read_close(socket)[0] == 1012 and code == 0
    log = server.log.read_text()
    assert session.ticket not in log and session.id not in log and "Traceback" not in log


def test_draining_service_takes_no_new_connection(make_client) -> None:
    from starlette.testclient import WebSocketDenialResponse

    client = make_client(FakeEngine())
    client.app.state.services.runtime.health.draining = True
    with pytest.raises(WebSocketDenialResponse) as refused:
        with client.websocket_connect("/v1/sessions/any/live"):
            pass
    assert_problem(refused.value, 503, "draining")


def test_session_has_one_connection_and_no_chunks_beside_it(session: LiveSession) -> None:
    with session.connect() as socket:
        session.renew_ticket()
        with session.connect() as second:
            assert read_close(second) == (4409, "in-progress")
        assert_problem(session.put(0, PICTURES), 409, "in-progress")
        socket.send(PICTURES[0])
        assert receive_answer(socket).facts["frame"] == 0
    wait_until(lambda: session.put(0, PICTURES).status_code == 200)


def test_frames_keep_their_session_alive_and_leaving_starts_its_idle_time(site) -> None:
    session = LiveSession(site, smoothing="off")
    with session.connect() as socket:
        before = session.get().json()["expires_at"]
        socket.send(PICTURES[0])
        receive_answer(socket)
        assert session.get().json()["expires_at"] > before
    assert read_parts(session.send(PICTURES))[0].frame == 1


def test_client_that_vanishes_costs_no_decoder_child(site, portrait) -> None:
    before = read_metric(site, "matting_decoder_restarts_total")
    picture = encode(portrait, "PNG")
    for _ in range(5):
        session = LiveSession(site)
        with session.connect() as socket:
            socket.send(picture)
            socket.socket.close()
        assert session.put(0, [picture, picture]).status_code == 200, "the session is free"
    assert read_metric(site, "matting_decoder_restarts_total") == before
