"""Clients that leave, senders that race, sessions that end."""

import threading
from pathlib import Path

import pytest

from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import Exchange, assert_problem
from tests.sessions import (
    FRAMES,
    PICTURES,
    Clock,
    SessionClient,
    encode_multipart,
    list_answers,
    read_numbers,
)


def test_client_that_leaves_while_its_chunk_is_worked_on_has_sent_nothing(
    make_client, tmp_path: Path
) -> None:
    engine = BlockedEngine()
    client = make_client(engine, data_dir=tmp_path)
    session = SessionClient(client, **FRAMES)
    body, kind = encode_multipart(PICTURES[:3])
    path = f"{session.path}/chunks/0"
    exchange = Exchange(client, path, body, method="PUT", content_type=kind)
    assert engine.entered.wait(10)
    exchange.disconnect()
    engine.release.set()
    exchange.wait()
    assert session.get().json()["next_sequence"] == 0 and list_answers(tmp_path) == []
    answers = [session.send(PICTURES[:3]), session.finish()]
    assert read_numbers(*answers) == [0, 1, 2]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_client_that_leaves_inside_the_body_has_sent_nothing(roomy, share: float) -> None:
    session = SessionClient(roomy, **FRAMES)
    body, kind = encode_multipart(PICTURES[:3])
    part = body[: int(len(body) * share)]
    path = f"{session.path}/chunks/0"
    exchange = Exchange(roomy, path, part, is_whole=False, method="PUT", content_type=kind)
    exchange.disconnect()
    exchange.wait()
    assert session.get().json()["next_sequence"] == 0
    assert read_numbers(session.send(PICTURES[:3]), session.finish()) == [0, 1, 2]


def test_two_senders_of_one_chunk_get_one_answer(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    found: list = []
    for sequence in range(10):
        chunk = PICTURES[2 * sequence : 2 * sequence + 2]
        answers: list = []
        barrier = threading.Barrier(3)

        def send(sequence=sequence, chunk=chunk, answers=answers, barrier=barrier) -> None:
            barrier.wait()
            answers.append(session.put(sequence, chunk))

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        found.append(answers[0])
    assert read_numbers(*found, session.finish()) == list(range(20))


def test_two_senders_of_different_chunks_have_one_winner(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    answers: list = []
    threads = [
        threading.Thread(target=lambda chunk=chunk: answers.append(session.put(0, chunk)))
        for chunk in (PICTURES[:2], PICTURES[2:4])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    winner = next(answer for answer in answers if answer.status_code == 200)
    loser = next(answer for answer in answers if answer.status_code == 409)
    assert_problem(loser, 409, "chunk-conflict")
    assert read_numbers(winner, session.finish()) in ([0, 1], [2, 3])


def test_delete_ends_the_chunk_in_progress(make_client, tmp_path: Path) -> None:
    engine = BlockedEngine()
    session = SessionClient(make_client(engine, data_dir=tmp_path), **FRAMES)
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(session.put(0, PICTURES[:5])))
    thread.start()
    assert engine.entered.wait(10)
    assert session.delete().status_code == 204
    engine.release.set()
    thread.join()
    assert_problem(answers[0], 410, "gone")
    assert list_answers(tmp_path) == []


def test_chunk_that_waits_too_long_for_its_turn_is_told(make_client) -> None:
    engine = BlockedEngine()
    client = make_client(engine, max_chunks=1, request_timeout_s=0.2)
    first, second = (SessionClient(client, **FRAMES) for _ in range(2))
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(first.put(0, PICTURES[:1])))
    thread.start()
    assert engine.entered.wait(10)
    response = second.put(0, PICTURES[:1])
    problem = assert_problem(response, 429, "overloaded")
    assert problem["limit"] == 1 and int(response.headers["retry-after"]) >= 1
    engine.release.set()
    thread.join()
    assert answers[0].status_code == 200
    second.send(PICTURES[:1])


def test_idle_session_is_gone_and_leaves_nothing(clock: Clock, make_client, tmp_path: Path) -> None:
    client = make_client(FakeEngine(), data_dir=tmp_path)
    session, finished = SessionClient(client, **FRAMES), SessionClient(client)
    for one in (session, finished):
        one.send(PICTURES[:2])
    last = finished.finish()
    clock.now_s += 59
    assert finished.finish().content == last.content
    assert session.get().status_code == 200
    session.send(PICTURES[2:3])
    clock.now_s += 61
    for one in (session, finished):
        for response in (one.put(2, PICTURES[3:4]), one.finish(), one.get(), one.delete()):
            assert "idle" in assert_problem(response, 410, "gone")["detail"]
    assert list_answers(tmp_path) == []


def test_too_many_sessions_are_refused_until_one_is_finished(clock: Clock, make_client) -> None:
    client = make_client(FakeEngine(), max_sessions=3, max_sessions_per_key=2, api_keys="a,b,c")
    start_s = clock.now_s
    first, *_ = [SessionClient(client, key=key) for key in "aa"]
    for key, limit in (("a", 2), ("c", 3)):
        response = client.post("/v1/sessions", json={}, headers={"X-API-Key": key})
        problem = assert_problem(response, 429, "overloaded")
        assert problem["limit"] == problem["actual"] == limit
        assert response.headers["retry-after"] == str(60 - int(clock.now_s - start_s))
        clock.now_s += 10
        if key == "a":
            SessionClient(client, key="b")
    first.send(PICTURES[:1])
    first.finish()
    SessionClient(client, key="a")
    assert first.finish().status_code == 200


def test_finished_sessions_do_not_pile_up(make_client) -> None:
    client = make_client(FakeEngine(), max_sessions=2, max_sessions_per_key=2)
    sessions = [SessionClient(client) for _ in range(1)]
    for _ in range(3):
        sessions[-1].send(PICTURES[:1])
        sessions[-1].finish()
        sessions.append(SessionClient(client))
    states = [session.finish().status_code for session in sessions[:3]]
    assert states == [410, 200, 200]
