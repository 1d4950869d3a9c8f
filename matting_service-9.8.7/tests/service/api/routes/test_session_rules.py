"""Which chunk may come when, and that each is applied whole or not at all."""

import errno
from pathlib import Path

import pytest

from service.media.decoder.client import Decoder
from service.sessions.answers import KEPT_ANSWERS, AnswerSpool
from tests.fakes import BrokenEngine, FakeEngine
from tests.helpers import assert_problem
from tests.sessions import (
    FRAMES,
    PICTURES,
    SessionClient,
    list_answers,
    read_numbers,
)


def test_same_chunk_again_is_answered_again_and_not_applied_twice(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    answers = [session.send(PICTURES[3 * index : 3 * index + 3]) for index in range(4)]
    for index, answer in enumerate(answers):
        again = session.put(index, PICTURES[3 * index : 3 * index + 3])
        assert again.status_code == 200 and again.content == answer.content
        for name in answer.headers:
            if name != "x-request-id":
                assert again.headers[name] == answer.headers[name]
    assert session.get().json()["next_sequence"] == 4
    assert read_numbers(*answers, session.finish()) == list(range(12))


def test_other_bytes_under_a_known_number_are_a_conflict(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
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


def test_gap_is_refused_with_the_number_that_is_due(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    for sequence in (1, 2, 10**9):
        problem = assert_problem(session.put(sequence, PICTURES[:1]), 409, "chunk-out-of-order")
        assert problem["expected_sequence"] == 0
    session.send(PICTURES[:2])
    problem = assert_problem(session.put(2, PICTURES[2:3]), 409, "chunk-out-of-order")
    assert problem["expected_sequence"] == 1


def test_chunk_older_than_the_kept_answers_is_refused(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    for number in range(KEPT_ANSWERS + 1):
        session.send([PICTURES[number]])
    problem = assert_problem(session.put(0, [PICTURES[0]]), 409, "chunk-out-of-order")
    assert problem["expected_sequence"] == KEPT_ANSWERS + 1
    assert session.put(1, [PICTURES[1]]).status_code == 200


def test_finish_is_answered_again_and_nothing_else_is(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    assert_problem(session.finish(), 409, "conflict")
    session.send(PICTURES[:2])
    last = session.finish()
    assert session.finish().content == last.content
    for response in (
        session.put(0, PICTURES[:2]),
        session.put(1, PICTURES[2:3]),
        session.get(),
        roomy.post(f"{session.path}/ticket"),
    ):
        assert "finished" in assert_problem(response, 410, "gone")["detail"]
    assert session.finish().content == last.content


def test_deleted_session_is_gone_for_every_call(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    session.send(PICTURES[:2])
    assert session.delete().status_code == 204
    calls = (
        session.put(1, PICTURES[2:3]),
        session.finish(),
        session.get(),
        session.delete(),
        roomy.post(f"{session.path}/ticket"),
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


def test_undecodable_chunk_leaves_the_session_as_it_was(roomy) -> None:
    session = SessionClient(roomy, **FRAMES)
    answers = [session.send(PICTURES[:2])]
    for chunk in ([PICTURES[2], b"no picture"], [PICTURES[2][:50]], b"no clip"):
        assert_problem(session.put(1, chunk), 422, "undecodable-media")
        assert session.get().json()["next_sequence"] == 1
    answers += [session.send(PICTURES[2:4]), session.finish()]
    assert read_numbers(*answers) == list(range(4))


def test_decoder_that_dies_leaves_the_session_as_it_was(
    roomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SessionClient(roomy, **FRAMES)
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
