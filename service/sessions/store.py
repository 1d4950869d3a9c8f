"""The session store: limits, ownership, expiry."""

import asyncio
import ctypes
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from service.errors import Gone, InProgress, NotFound, Overloaded
from service.metrics import Metrics
from service.scratch import ScratchFolder
from service.sessions.answers import PREFIX, AnswerSpool
from service.sessions.options import SessionOptions
from service.sessions.session import Session, SessionState
from service.settings import Settings

SWEEP_S = 5.0
LOCK_WAIT_S = 5.0
TICKET_S = 60.0
MAX_TICKETS = 16  # of one session
MAX_ENDED = 10_000  # ids that are answered 410 rather than 404


@dataclass(frozen=True)
class _Ticket:
    session_id: str
    expires_s: float


class SessionStore:
    """Sessions by id; those that nobody uses end, and their memory and files with them.

    Sessions live in the process and end with it. Methods run on the event loop; `threads` are for
    the work on chunks. Times are those of `clock`, which never goes back.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._ended: OrderedDict[str, tuple[str, str]] = OrderedDict()  # id to owner and reason
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()
        self._has_freed_memory = False
        self._folder = ScratchFolder(settings.data_dir, PREFIX)
        self.answers = AnswerSpool(self._folder, settings.session_disk_mb * 2**20)
        self.threads = ThreadPoolExecutor(settings.max_chunks, thread_name_prefix="session")
        metrics.sessions_active.set_function(lambda: len(self._list_open()))
        metrics.session_buffer_bytes.set_function(lambda: self.buffer_bytes)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    @property
    def buffer_bytes(self) -> int:
        """Bytes that all sessions hold in memory between chunks."""
        return sum(session.buffer_bytes for session in self._sessions.values())

    def open(self, owner: str, options: SessionOptions) -> Session:
        """Begin a session; raises Overloaded when there are too many, of all or of this owner."""
        self._drop_expired()
        opened = self._list_open()
        own = [session for session in opened if session.owner == owner]
        self._check_room("sessions are open", self._settings.max_sessions, opened)
        self._check_room("sessions of this key are open", self._settings.max_sessions_per_key, own)
        now_s = self._clock()
        session = Session(
            id=self._settings.name_id(secrets.token_urlsafe(24)),
            owner=owner,
            options=options,
            created_s=now_s,
            used_s=now_s,
            state=SessionState(size=options.size),
        )
        self._sessions[session.id] = session
        return session

    def find(self, owner: str, session_id: str) -> Session:
        """Return a session; raises NotFound, or Gone when this owner had it once."""
        self._drop_expired()
        session = self._sessions.get(session_id)
        if session is not None and session.owner == owner:
            return session
        if (ended := self._ended.get(session_id)) is not None and ended[0] == owner:
            raise Gone(f"the session {ended[1]}", hint="open a new one")
        raise NotFound("there is no session with this id", hint="POST /v1/sessions opens one")

    @contextmanager
    def use(self, owner: str, session_id: str) -> Iterator[Session]:
        """Find a session and keep it from expiring for the `with` block; raises as `find` does."""
        session = self.find(owner, session_id)
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            self.touch(session)

    def touch(self, session: Session) -> None:
        """Take in that a session is in use: it may idle from now on anew."""
        session.used_s = self._clock()

    @asynccontextmanager
    async def hold(self, session: Session, wait_s: float = LOCK_WAIT_S) -> AsyncIterator[None]:
        """Have a session that is in use to oneself for the `with` block.

        Raises InProgress when another request has it for `wait_s` more seconds, and Gone.
        """
        try:
            async with asyncio.timeout(wait_s):
                await session.lock.acquire()
        except TimeoutError:
            raise InProgress(
                f"another request has worked on this session for over {wait_s:g} s",
                hint="send one chunk after the other's answer",
            ) from None
        try:
            self.find(session.owner, session.id)  # it may have been deleted while this waited
            yield
        finally:
            session.lock.release()

    def end(self, session: Session, reason: str) -> None:
        """End a session; `reason` completes "the session ..."."""
        if self._sessions.pop(session.id, None) is None:
            return
        session.ended.set()
        self._has_freed_memory = True
        session.stop.set()
        self.answers.drop(session.id)
        self._ended[session.id] = session.owner, reason
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def finish(self, session: Session) -> None:
        """Take in that a session is finished; only so many of them stay for their last answer."""
        finished = [other for other in self._sessions.values() if other.state.is_finished]
        for oldest in finished[: -self._settings.max_sessions]:
            self.end(oldest, "was finished")

    def expires_in_s(self, session: Session) -> float:
        """Return the seconds until the session ends if nobody uses it."""
        idle_end_s = session.used_s + self._settings.session_idle_s
        return min(idle_end_s, session.created_s + self._settings.session_max_s) - self._clock()

    def end_expired(self, session: Session) -> bool:
        """End a session whose time is over, also one in use; say whether it was."""
        if self.expires_in_s(session) > 0:
            return False
        idle = session.used_s + self._settings.session_idle_s <= self._clock()
        self.end(session, "was idle for too long" if idle else "lasted too long")
        return True

    def issue_ticket(self, session: Session) -> str:
        """Return a secret that admits one live connection to the session, within TICKET_S."""
        self._drop_tickets()
        own = [key for key, ticket in self._tickets.items() if ticket.session_id == session.id]
        for key in own[: len(own) - MAX_TICKETS + 1]:
            del self._tickets[key]
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = _Ticket(session.id, self._clock() + TICKET_S)
        return ticket

    def redeem_ticket(self, ticket: str, session_id: str) -> Session | None:
        """Return the session of a ticket, once; None for one that is unknown, old or another's."""
        self._drop_expired()
        self._drop_tickets()
        found = self._tickets.pop(ticket, None)
        if found is None or found.session_id != session_id:
            return None
        return self._sessions.get(session_id)

    async def aclose(self) -> None:
        """End all sessions and remove their files."""
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        for session in list(self._sessions.values()):
            self.end(session, "ended with the service")
        self.threads.shutdown(wait=False)
        self._folder.close()

    def _list_open(self) -> list[Session]:
        return [one for one in self._sessions.values() if not one.state.is_finished]

    def _check_room(self, what: str, limit: int, sessions: list[Session]) -> None:
        if len(sessions) < limit:
            return
        self._metrics.requests_rejected.labels("overloaded").inc()
        raise Overloaded(
            f"{len(sessions)} {what}, the limit is {limit}",
            hint="finish or delete a session, or wait for Retry-After seconds",
            limit=limit,
            actual=len(sessions),
            retry_after_s=min(map(self.expires_in_s, sessions)),
        )

    def _drop_expired(self) -> None:
        for session in list(self._sessions.values()):
            if not session.users:
                self.end_expired(session)

    def _drop_tickets(self) -> None:
        now_s = self._clock()
        for key in [key for key, one in self._tickets.items() if one.expires_s <= now_s]:
            del self._tickets[key]

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._drop_expired()
            self._drop_tickets()
            if self._has_freed_memory:
                self._has_freed_memory = False
                await asyncio.to_thread(give_memory_back)


def give_memory_back() -> None:
    """Return to the system what ended sessions held: malloc_trim(3), where there is glibc.

    Without it an allocator with an arena a thread keeps a megabyte of each encoder.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
