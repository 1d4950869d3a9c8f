"""Which chunk may come when, and that each is applied whole or not at all."""

import errno
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.media.decoders import Decoder
from service.video.session_answers import KEPT_ANSWERS, AnswerSpool
from service.video.session_store import SessionStore
from tests.fakes import BlockedEngine, BrokenEngine, FakeEngine
from tests.helpers import Exchange, assert_problem
from tests.sessions import (
    Clock,
    SessionClient,
    encode_multipart,
    number_picture,
    read_number,
    read_parts,
)

PICTURES = [number_picture(number) for number in range(40)]
FRAMES = {"output": "cutout", "packaging": "frames"}


@pytest.fixture(scope="module")
def client() -> Iterator:
    from tests.conftest import open_client

    with open_client(FakeEngine(), max_sessions=500, max_sessions_per_key=500) as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the sessions of every app that starts afterwards."""
    clock = Clock()
    timed = functools.partial(SessionStore, clock=clock)
    monkeypatch.setattr("service.app.SessionStore", timed)
    return clock


def read_numbers(*responses) -> list[int]:
    return [read_number(part.image) for answer in responses for part in read_parts(answer)]


def test_same_chunk_again_is_answered_again_and_not_applied_twice(client) -> None:
    session = SessionClient(client, **FRAMES)
    answers = [session.send(PICTURES[3 * index : 3 * index + 3]) for index in range(4)]
    for index, answer in enumerate(answers):
        again = session.put(index, PICTURES[3 * index : 3 * index + 3])
        assert again.status_code == 200 and again.content == answer.content
        for name in answer.headers:
            if name != "x-request-id":
                assert again.headers[name] == answer.headers[name]
    assert session.get().json()["next_sequence"] == 4
    assert read_numbers(*answers, session.finish()) == list(range(12))


def test_other_bytes_under_a_known_number_are_a_conflict(client) -> None:
    session = SessionClient(client, **FRAMES)
    session.send(PICTURES[:2])
    for chunk in (
        PICTURES[:1],
        PICTURES[:3],
        PICTURES[1::-1],
        b"clip",
        [PICTURES[0] + PICTURES[1]],
    ):
        problem = assert_problem(session.put(0, chunk), 409, "chunk-conflict")
        assert problem["expected_sequence"] == 1
    assert session.get().json()["next_sequence"] == 1


def test_gap_is_refused_with_the_number_that_is_due(client) -> None:
    session = SessionClient(client, **FRAMES)
    for sequence in (1, 2, 10**9):
        problem = assert_problem(session.put(sequence, PICTURES[:1]), 409, "chunk-out-of-order")
        assert problem["expected_sequence"] == 0
    session.send(PICTURES[:2])
    problem = assert_problem(session.put(2, PICTURES[2:3]), 409, "chunk-out-of-order")
    assert problem["expected_sequence"] == 1


def test_chunk_older_than_the_kept_answers_is_refused(client) -> None:
    session = SessionClient(client, **FRAMES)
    for number in range(KEPT_ANSWERS + 1):
        session.send([PICTURES[number]])
    problem = assert_problem(session.put(0, [PICTURES[0]]), 409, "chunk-out-of-order")
    assert problem["expected_sequence"] == KEPT_ANSWERS + 1
    assert session.put(1, [PICTURES[1]]).status_code == 200


def test_finish_is_answered_again_and_nothing_else_is(client) -> None:
    session = SessionClient(client, **FRAMES)
    assert_problem(session.finish(), 409, "conflict")
    session.send(PICTURES[:2])
    last = session.finish()
    assert session.finish().content == last.content
    for response in (
        session.put(0, PICTURES[:2]),
        session.put(1, PICTURES[2:3]),
        session.get(),
        client.post(f"{session.path}/ticket"),
    ):
        assert "finished" in assert_problem(response, 410, "gone")["detail"]
    assert session.finish().content == last.content


def test_deleted_session_is_gone_for_every_call(client) -> None:
    session = SessionClient(client, **FRAMES)
    session.send(PICTURES[:2])
    assert session.delete().status_code == 204
    calls = (
        session.put(1, PICTURES[2:3]),
        session.finish(),
        session.get(),
        session.delete(),
        client.post(f"{session.path}/ticket"),
    )
    for response in calls:
        assert "deleted" in assert_problem(response, 410, "gone")["detail"]


def test_session_of_another_key_looks_like_one_that_never_was(make_client) -> None:
    client = make_client(FakeEngine(), api_keys="mine,yours")
    session = SessionClient(client, key="mine", **FRAMES)
    session.send(PICTURES[:2])

    def ask_all(session_id: str, key: str) -> list:
        path, headers = f"/v1/sessions/{session_id}", {"X-API-Key": key}
        return [
            client.put(f"{path}/chunks/1", files={"frame": PICTURES[2]}, headers=headers),
            client.put(f"{path}/chunks/0", files={"frame": PICTURES[2]}, headers=headers),
            client.post(f"{path}/finish", headers=headers),
            client.get(path, headers=headers),
            client.delete(path, headers=headers),
            client.post(f"{path}/ticket", headers=headers),
        ]

    session_id = session.opened["id"]
    for theirs, unknown in zip(ask_all(session_id, "yours"), ask_all("none", "mine"), strict=True):
        problem = assert_problem(theirs, 404, "not-found")
        assert problem | {"instance": ""} == unknown.json() | {"instance": ""}
    session.send(PICTURES[2:3])
    session.delete()
    for response in ask_all(session_id, "yours"):
        assert_problem(response, 404, "not-found")


def test_undecodable_chunk_leaves_the_session_as_it_was(client) -> None:
    session = SessionClient(client, **FRAMES)
    answers = [session.send(PICTURES[:2])]
    for chunk in ([PICTURES[2], b"no picture"], [PICTURES[2][:50]], b"no clip"):
        assert_problem(session.put(1, chunk), 422, "undecodable-media")
        assert session.get().json()["next_sequence"] == 1
    answers += [session.send(PICTURES[2:4]), session.finish()]
    assert read_numbers(*answers) == list(range(4))


def test_decoder_that_dies_leaves_the_session_as_it_was(
    client, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SessionClient(client, **FRAMES)
    answers = [session.send(PICTURES[:2])]
    decode = Decoder.decode_image

    def kill_and_decode(self: Decoder):
        self._process.kill()
        return decode(self)

    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "decode_image", kill_and_decode)
        problem = assert_problem(session.put(1, PICTURES[2:4]), 422, "undecodable-media")
        assert "frame 0" in problem["detail"]
    answers += [session.send(PICTURES[2:4]), session.finish()]
    assert read_numbers(*answers) == list(range(4))


def test_failing_network_leaves_the_session_as_it_was(make_client) -> None:
    engine = BrokenEngine()
    engine.broken = False
    session = SessionClient(make_client(engine), **FRAMES)
    answers = [session.send(PICTURES[:2])]
    engine.broken = True
    assert_problem(session.put(1, PICTURES[2:4]), 500, "internal-error")
    assert_problem(session.put(1, PICTURES[2:4]), 500, "internal-error")
    engine.broken = False
    answers += [session.send(PICTURES[2:4]), session.finish()]
    assert read_numbers(*answers) == list(range(4))


def test_full_disk_is_said_and_leaves_the_session_as_it_was(
    make_client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SessionClient(make_client(FakeEngine(), data_dir=tmp_path), **FRAMES)
    answers = [session.send(PICTURES[:2])]
    create = AnswerSpool.create

    class FullFile:
        def __init__(self, file) -> None:
            self.file, self.tell, self.close = file, file.tell, file.close

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "no space")

    def create_full(self: AnswerSpool):
        path, file = create(self)
        return path, FullFile(file)

    with monkeypatch.context() as patched:
        patched.setattr(AnswerSpool, "create", create_full)
        problem = assert_problem(session.put(1, PICTURES[2:4]), 507, "insufficient-storage")
        assert str(tmp_path) not in str(problem)
    assert len(list_answers(tmp_path)) == 1
    answers += [session.send(PICTURES[2:4]), session.finish()]
    assert read_numbers(*answers) == list(range(4))


def list_answers(folder: Path) -> list[Path]:
    found = folder.glob("matting-sessions-*/*")
    return [path for path in found if path.name != "lock"]


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
def test_client_that_leaves_inside_the_body_has_sent_nothing(client, share: float) -> None:
    session = SessionClient(client, **FRAMES)
    body, kind = encode_multipart(PICTURES[:3])
    part = body[: int(len(body) * share)]
    path = f"{session.path}/chunks/0"
    exchange = Exchange(client, path, part, is_whole=False, method="PUT", content_type=kind)
    exchange.disconnect()
    exchange.wait()
    assert session.get().json()["next_sequence"] == 0
    assert read_numbers(session.send(PICTURES[:3]), session.finish()) == [0, 1, 2]


def test_two_senders_of_one_chunk_get_one_answer(client) -> None:
    session = SessionClient(client, **FRAMES)
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


def test_two_senders_of_different_chunks_have_one_winner(client) -> None:
    session = SessionClient(client, **FRAMES)
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
