"""Sessions by id: owners, room, expiry by a clock of the test's own, tickets."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.errors import Gone, InProgress, NotFound, Overloaded
from service.metrics import Metrics
from service.sessions.answers import Answer
from service.sessions.options import SessionOptions
from service.sessions.store import MAX_TICKETS, TICKET_S, SessionStore
from service.settings import Settings
from tests.sessions import Clock

OPTIONS = SessionOptions()


def run(
    folder: Path, scenario: Callable[[SessionStore, Clock], Awaitable[None]], **settings: object
) -> None:
    async def go() -> None:
        clock = Clock()
        store = SessionStore(Settings(data_dir=folder, **settings), Metrics(), clock=clock)
        try:
            await scenario(store, clock)
        finally:
            await store.aclose()
        assert list(folder.iterdir()) == []

    asyncio.run(go())


def keep_answer(store: SessionStore, session_id: str, sequence: int, size: int = 10) -> Path:
    path, file = store.answers.create()
    with file:
        file.write(b"x" * size)
    store.answers.keep(session_id, sequence, Answer(path, size, "text/plain", {}))
    return path


def test_session_is_its_owners_alone(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session = store.open("me", OPTIONS)
        assert store.find("me", session.id) is session
        for owner, session_id in (("you", session.id), ("me", "unknown")):
            with pytest.raises(NotFound) as raised:
                store.find(owner, session_id)
            assert "no session with this id" in raised.value.detail
        store.end(session, "was deleted")
        with pytest.raises(Gone, match="was deleted"):
            store.find("me", session.id)
        with pytest.raises(NotFound):
            store.find("you", session.id)

    run(tmp_path, scenario)


def test_ids_and_tickets_cannot_be_guessed(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session = store.open("me", OPTIONS)
        secrets = {store.issue_ticket(session) for _ in range(5)} | {session.id}
        assert len(secrets) == 6 and min(map(len, secrets)) >= 32  # 192 bits in base64

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("steps_s", "reason"), [([59.9, 60.1], "idle"), ([59, 59, 33], "too long")]
)
def test_session_expires_with_its_files(tmp_path: Path, steps_s: list[float], reason: str) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session = store.open("me", OPTIONS)
        path = keep_answer(store, session.id, 0)
        for step_s in steps_s:
            with store.use("me", session.id):
                assert path.exists()
            clock.now_s += step_s
        with pytest.raises(Gone, match=reason):
            store.find("me", session.id)
        assert not path.exists() and store.buffer_bytes == 0 and store.answers.size_bytes == 0

    run(tmp_path, scenario, session_max_s=150 if reason == "too long" else 7200)


def test_session_in_use_does_not_expire(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session = store.open("me", OPTIONS)
        with store.use("me", session.id):  # a slow upload
            clock.now_s += 100
            assert store.find("me", session.id) is session
        clock.now_s += 59
        assert store.find("me", session.id) is session

    run(tmp_path, scenario)


def test_asking_for_the_state_does_not_keep_a_session_alive(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session = store.open("me", OPTIONS)
        clock.now_s += 40
        assert store.expires_in_s(store.find("me", session.id)) == 20
        clock.now_s += 20
        with pytest.raises(Gone):
            store.find("me", session.id)

    run(tmp_path, scenario)


def test_sweeper_ends_what_nobody_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.sessions.store.SWEEP_S", 0.001)

    async def scenario(store: SessionStore, clock: Clock) -> None:
        path = keep_answer(store, store.open("me", OPTIONS).id, 0)
        clock.now_s += 61
        async with asyncio.timeout(10):
            while path.exists():
                await asyncio.sleep(0.001)

    run(tmp_path, scenario)


def test_too_many_sessions_are_refused_until_one_ends(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        first = store.open("me", OPTIONS)
        clock.now_s += 20
        store.open("me", OPTIONS)
        with pytest.raises(Overloaded) as raised:
            store.open("me", OPTIONS)
        assert (raised.value.limit, raised.value.actual) == (2, 2)
        assert raised.value.headers["Retry-After"] == "40"
        store.open("you", OPTIONS)
        with pytest.raises(Overloaded) as raised:
            store.open("they", OPTIONS)
        assert raised.value.limit == 3
        store.end(first, "was deleted")
        store.open("they", OPTIONS)

    run(tmp_path, scenario, max_sessions=3, max_sessions_per_key=2)


def test_second_user_waits_and_is_told_when_it_takes_too_long(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session = store.open("me", OPTIONS)
        async with store.hold(session):
            with pytest.raises(InProgress, match="0.01 s"):
                async with store.hold(session, wait_s=0.01):
                    raise AssertionError("two have the session")
            waiting = asyncio.ensure_future(enter(store, session))
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
        async with store.hold(session):
            late = asyncio.ensure_future(enter(store, session))
            await asyncio.sleep(0)
            store.end(session, "was deleted")
        with pytest.raises(Gone):
            await late
        assert session.stop.is_set()

    async def enter(store: SessionStore, session) -> None:
        async with store.hold(session):
            pass

    run(tmp_path, scenario)


def test_ticket_admits_once_and_not_for_long(tmp_path: Path) -> None:
    async def scenario(store: SessionStore, clock: Clock) -> None:
        session, other = store.open("me", OPTIONS), store.open("you", OPTIONS)
        ticket = store.issue_ticket(session)
        assert store.redeem_ticket("unknown", session.id) is None
        assert store.redeem_ticket(ticket, session.id) is session
        assert store.redeem_ticket(ticket, session.id) is None
        assert store.redeem_ticket(store.issue_ticket(session), other.id) is None
        late = store.issue_ticket(session)
        clock.now_s += TICKET_S - 1
        with store.use("me", session.id):
            pass
        fresh = store.issue_ticket(session)
        clock.now_s += 1
        assert store.redeem_ticket(late, session.id) is None
        assert store.redeem_ticket(fresh, session.id) is session
        many = [store.issue_ticket(session) for _ in range(MAX_TICKETS + 1)]
        assert store.redeem_ticket(many[0], session.id) is None
        store.end(session, "was deleted")
        assert store.redeem_ticket(many[-1], session.id) is None

    run(tmp_path, scenario)


def test_ended_ids_are_remembered_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.sessions.store.MAX_ENDED", 2)

    async def scenario(store: SessionStore, clock: Clock) -> None:
        sessions = [store.open("me", OPTIONS) for _ in range(3)]
        for session in sessions:
            store.end(session, "was deleted")
        with pytest.raises(NotFound):
            store.find("me", sessions[0].id)
        with pytest.raises(Gone):
            store.find("me", sessions[2].id)

    run(tmp_path, scenario)
