"""Who may open a live socket: keys in headers, tickets in sub-protocols, nothing in the query."""

import logging
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.fakes import FakeEngine
from tests.helpers import wait_until
from tests.sessions import number_picture
from tests.sockets import LiveSession, read_close, receive_answer, serve

KEY, OTHER = "alpha-key-1234", "beta-key-5678"
OWN = {"X-API-Key": KEY}
PICTURE = number_picture(7)


@pytest.fixture(scope="module")
def site() -> Iterator:
    with serve(FakeEngine(), api_keys=f"{KEY},{OTHER}", max_sessions_per_key=99) as client:
        yield client


@pytest.fixture
def session(site) -> LiveSession:
    return LiveSession(site, key=KEY, smoothing="off")


def refuse(url: str, headers: dict[str, str], **options: object) -> tuple[int, str]:
    """Return the status and the problem that a connection is refused with before the upgrade."""
    with pytest.raises(InvalidStatus) as refused:
        with connect(url, additional_headers=headers, **options):
            pass
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.body.decode()
    assert response.headers["X-Request-ID"] in problem
    return response.status_code, problem.replace(response.headers["X-Request-ID"], "")


@pytest.mark.parametrize("headers", [OWN, {"Authorization": f"Bearer {KEY}"}])
def test_key_in_a_header_opens_the_socket(session: LiveSession, headers: dict) -> None:
    with connect(session.url, additional_headers=headers) as socket:
        assert socket.subprotocol is None
        socket.send(PICTURE)
        assert receive_answer(socket).facts["frame"] == 0


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-API-Key": "wrong"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}],
)
def test_without_a_good_key_it_is_401_before_the_upgrade(session: LiveSession, headers) -> None:
    status, problem = refuse(session.url, headers)
    assert status == 401 and '"unauthorized"' in problem


def test_session_of_another_key_is_like_one_that_does_not_exist(session: LiveSession) -> None:
    other = {"X-API-Key": OTHER}
    foreign = refuse(session.url, other)
    assert foreign[0] == 404
    assert foreign == refuse(session.url.replace(session.id, "x" * 32), other)


@pytest.mark.parametrize("path", ["/v1/image", "/assets/x", "/"])
def test_socket_elsewhere_is_not_found(session: LiveSession, path: str) -> None:
    assert refuse(f"ws://127.0.0.1:{session.port}{path}", OWN)[0] == 404


def test_ticket_opens_the_socket_once(session: LiveSession) -> None:
    with session.connect() as socket:
        assert socket.subprotocol == "matting.v1"
        socket.send(PICTURE)
        receive_answer(socket)
    with session.connect() as socket:
        assert read_close(socket) == (4401, "unauthorized")


def test_ticket_of_nobody_or_of_another_session_closes_with_4401(
    site, session: LiveSession
) -> None:
    for ticket in ("x", LiveSession(site, key=KEY).ticket):
        with session.connect_with(ticket) as socket:
            assert read_close(socket) == (4401, "unauthorized")


def test_wrong_key_beside_a_good_ticket_is_401(session: LiveSession) -> None:
    offered = ["matting.v1", f"ticket.{session.ticket}"]
    assert refuse(session.url, {"X-API-Key": "wrong"}, subprotocols=offered)[0] == 401


def test_two_tickets_are_none(session: LiveSession) -> None:
    offered = ["matting.v1", f"ticket.{session.ticket}", "ticket.x"]
    assert refuse(session.url, {}, subprotocols=offered)[0] == 401


def test_other_protocols_alone_are_refused(session: LiveSession) -> None:
    status, problem = refuse(session.url, OWN, subprotocols=["chat"])
    assert status == 400 and "matting.v1" in problem


def test_finished_session_is_gone(session: LiveSession) -> None:
    with session.connect() as socket:
        socket.send(PICTURE)
        receive_answer(socket)
        session.renew_ticket()
    assert session.finish().status_code == 200
    assert refuse(session.url, OWN)[0] == 410
    with session.connect() as socket:
        assert read_close(socket) == (4410, "gone")


def test_key_in_the_query_is_refused_and_nothing_secret_is_logged(
    session: LiveSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for headers in ({}, OWN):
            status, problem = refuse(f"{session.url}?key={KEY}", headers)
            assert status == 400 and KEY not in problem
        with connect(session.url, additional_headers=OWN), pytest.raises(InvalidStatus):
            with connect(session.url, additional_headers=OWN):
                pass
        with session.connect() as socket:
            socket.send(PICTURE)
            receive_answer(socket)
    ours = [one for one in caplog.records if one.name.startswith(("service", "uvicorn"))]
    text = " ".join(f"{one.getMessage()} {one.__dict__}" for one in ours)
    assert "/live" in text, "the log says what happened"
    assert KEY not in text and session.ticket not in text and session.id not in text


def test_log_says_why_a_socket_was_refused_or_closed(session: LiveSession, caplog) -> None:
    """Before the upgrade it is the answer of HTTP; then 101, and how the socket was closed."""
    caplog.set_level(logging.INFO, "service.api.request_layer")
    refuse(session.url, {"X-API-Key": "wrong"})
    with session.connect_with("x") as socket:
        read_close(socket)

    def read_lines() -> list[dict]:
        lines = [one.fields for one in caplog.records if one.message == "request"]
        return [line for line in lines if line["status"] in (101, 401)]

    first, second = wait_until(lambda: len(read_lines()) > 1 and read_lines())
    assert first["status"] == 401 and "close_code" not in first
    assert second["status"] == 101 and second["route"] == "/v1/sessions/{session_id}/live"
    assert (second["close_code"], second["close_reason"]) == (4401, "unauthorized")
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert "wrong" not in str(first) and session.id not in str(second)
