"""Whatever a client does to a session: no frame is lost, doubled or moved."""

import functools
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.sessions.answers import KEPT_ANSWERS
from service.sessions.store import SessionStore
from tests.fakes import FakeEngine
from tests.helpers import Exchange, assert_problem
from tests.sessions import (
    Clock,
    SessionClient,
    encode_multipart,
    number_picture,
    read_number,
    read_parts,
)

IDLE_S = 60
FPS = 25
sizes = st.integers(1, 3)


class Sessions(RuleBasedStateMachine):
    """One session after another, beside a model of what it must have answered.

    Frames hold their numbers in their pixels. `answers` are the contents by sequence, `sent` the
    chunks; `frames` went in, in this order.
    """

    def __init__(self, client, clock: Clock) -> None:
        super().__init__()
        self.client = client
        self.clock = clock

    @initialize()
    def begin(self) -> None:
        self.session = SessionClient(self.client, output="cutout", packaging="frames", fps=FPS)
        self.sent: list[list[bytes]] = []
        self.answers: list[bytes] = []
        self.numbers: list[int] = []
        self.count = 0
        self.is_finished = self.is_gone = False
        self.used_s = self.clock.now_s

    def is_open(self) -> bool:
        return not self.is_finished and not self.is_gone

    def touch(self) -> None:
        self.used_s = self.clock.now_s

    def make_chunk(self, size: int) -> list[bytes]:
        return [number_picture(self.count + index) for index in range(size)]

    def take(self, chunk: list[bytes], response) -> None:
        """Take in the answer of a chunk that was applied."""
        assert response.status_code == 200, response.text
        parts = read_parts(response)
        found = [read_number(part.image) for part in parts]
        frames = range(len(self.numbers), len(self.numbers) + len(found))
        assert [part.frame for part in parts] == list(frames)
        assert [part.time_s for part in parts] == [round(frame / FPS, 6) for frame in frames]
        assert len(found) == len(chunk) - (not self.sent)
        self.sent.append(chunk)
        self.answers.append(response.content)
        self.numbers += found
        self.count += len(chunk)
        assert self.numbers == list(range(self.count - 1))
        self.touch()

    @precondition(is_open)
    @rule(size=sizes)
    def send_next(self, size: int) -> None:
        chunk = self.make_chunk(size)
        self.take(chunk, self.session.put(len(self.sent), chunk))

    @precondition(lambda self: self.is_open() and self.sent)
    @rule(back=st.integers(1, KEPT_ANSWERS + 2))
    def send_again(self, back: int) -> None:
        sequence = max(len(self.sent) - back, 0)
        response = self.session.put(sequence, self.sent[sequence])
        if sequence >= len(self.sent) - KEPT_ANSWERS:
            assert response.status_code == 200 and response.content == self.answers[sequence]
        else:
            problem = assert_problem(response, 409, "chunk-out-of-order")
            assert problem["expected_sequence"] == len(self.sent)
        self.touch()

    @precondition(lambda self: self.is_open() and self.sent)
    @rule(back=st.integers(1, KEPT_ANSWERS), size=sizes)
    def send_other_bytes(self, back: int, size: int) -> None:
        sequence = max(len(self.sent) - back, 0)
        response = self.session.put(sequence, self.make_chunk(size))
        problem = assert_problem(response, 409, "chunk-conflict")
        assert problem["expected_sequence"] == len(self.sent)
        self.touch()

    @precondition(is_open)
    @rule(gap=st.integers(1, 1000))
    def send_too_early(self, gap: int) -> None:
        response = self.session.put(len(self.sent) + gap, self.make_chunk(1))
        problem = assert_problem(response, 409, "chunk-out-of-order")
        assert problem["expected_sequence"] == len(self.sent)
        self.touch()

    @precondition(is_open)
    @rule(size=sizes, bad=st.sampled_from([b"no picture", b"", number_picture(0)[:60]]))
    def send_undecodable(self, size: int, bad: bytes) -> None:
        chunk = [*self.make_chunk(size), bad]
        assert_problem(self.session.put(len(self.sent), chunk), 422, "undecodable-media")
        self.touch()

    @precondition(lambda self: self.is_open() and self.sent)
    @rule(size=sizes)
    def send_other_size(self, size: int) -> None:
        chunk = [*self.make_chunk(size), number_picture(self.count, side=33)]
        assert_problem(self.session.put(len(self.sent), chunk), 422, "impossible-output")
        self.touch()

    @precondition(is_open)
    @rule(size=sizes, share=st.floats(0, 0.99))
    def leave_inside_the_body(self, size: int, share: float) -> None:
        body, kind = encode_multipart(self.make_chunk(size))
        path = f"{self.session.path}/chunks/{len(self.sent)}"
        part = body[: int(len(body) * share)]
        exchange = Exchange(
            self.client, path, part, is_whole=False, method="PUT", content_type=kind
        )
        exchange.disconnect()
        exchange.wait()
        self.touch()

    @precondition(is_open)
    @rule(size=sizes)
    def send_from_two_sides(self, size: int) -> None:
        chunk = self.make_chunk(size)
        one, other = self.race(chunk, chunk)
        assert one.content == other.content and other.status_code == 200
        self.take(chunk, one)

    @precondition(is_open)
    @rule(size=sizes)
    def send_different_chunks_from_two_sides(self, size: int) -> None:
        chunks = self.make_chunk(size), self.make_chunk(size + 1)
        answers = self.race(*chunks)
        statuses = [answer.status_code for answer in answers]
        assert sorted(statuses) == [200, 409]
        winner = statuses.index(200)
        assert_problem(answers[1 - winner], 409, "chunk-conflict")
        self.take(chunks[winner], answers[winner])

    def race(self, *chunks: list[bytes]) -> list:
        answers: dict[int, object] = {}
        sequence = len(self.sent)

        def send(index: int, chunk: list[bytes]) -> None:
            answers[index] = self.session.put(sequence, chunk)

        threads = [threading.Thread(target=send, args=pair) for pair in enumerate(chunks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [answers[index] for index in range(len(chunks))]

    @precondition(is_open)
    @rule()
    def finish(self) -> None:
        response = self.session.finish()
        self.touch()
        if not self.sent:
            assert_problem(response, 409, "conflict")
            return
        assert response.status_code == 200
        (part,) = read_parts(response)
        self.numbers.append(read_number(part.image))
        assert self.numbers == list(range(self.count)) and part.frame == self.count - 1
        self.answers.append(response.content)
        self.is_finished = True

    @precondition(lambda self: self.is_finished and not self.is_gone)
    @rule()
    def finish_again(self) -> None:
        assert self.session.finish().content == self.answers[-1]
        chunk = self.sent[-1]
        for response in (self.session.put(len(self.sent) - 1, chunk), self.session.get()):
            assert_problem(response, 410, "gone")
        self.touch()

    @precondition(lambda self: not self.is_gone)
    @rule(seconds=st.sampled_from([1, 30, 59, 61]))
    def wait(self, seconds: int) -> None:
        self.clock.now_s += seconds
        self.is_gone = self.clock.now_s - self.used_s >= IDLE_S

    @precondition(lambda self: not self.is_gone)
    @rule()
    def delete(self) -> None:
        assert self.session.delete().status_code == 204
        self.is_gone = True

    @precondition(lambda self: self.is_gone)
    @rule()
    def find_it_gone_and_begin_anew(self) -> None:
        calls = (
            self.session.put(len(self.sent), self.make_chunk(1)),
            self.session.finish(),
            self.session.get(),
            self.session.delete(),
        )
        for response in calls:
            assert_problem(response, 410, "gone")
        self.begin()

    @invariant()
    def state_is_that_of_the_model(self) -> None:
        if self.is_open():
            state = self.session.get().json()
            assert state["next_sequence"] == len(self.sent)
            assert state["frames_in"] == self.count
            assert state["frames_out"] == len(self.numbers)
            assert state["frames_pending"] == min(self.count, 1)

    def teardown(self) -> None:
        if hasattr(self, "session") and self.is_open() and self.sent:
            self.finish()
        if hasattr(self, "session") and not self.is_gone:
            self.session.delete()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def client(clock: Clock) -> Iterator:
    from tests.conftest import open_client

    with pytest.MonkeyPatch.context() as patched:
        timed = functools.partial(SessionStore, clock=clock)
        patched.setattr("service.app.SessionStore", timed)
        with open_client(FakeEngine()) as opened:
            yield opened


def test_no_frame_is_lost_doubled_or_moved(client, clock: Clock) -> None:
    few = settings(max_examples=30, stateful_step_count=20)
    run_state_machine_as_test(lambda: Sessions(client, clock), settings=few)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_frame_is_lost_doubled_or_moved_in_many_runs(client, clock: Clock) -> None:
    many = settings(max_examples=200, stateful_step_count=50)
    run_state_machine_as_test(lambda: Sessions(client, clock), settings=many)
