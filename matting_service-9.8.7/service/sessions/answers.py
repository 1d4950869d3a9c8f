"""Session answers kept on disk, for clients that must fetch one again."""

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.scratch import ScratchFolder

PREFIX = "matting-sessions-"
KEPT_ANSWERS = 8


@dataclass(frozen=True)
class Answer:
    """One complete answer in a file; `digest` is that of the chunk it answers, empty at the end."""

    path: Path
    size_bytes: int
    content_type: str
    headers: Mapping[str, str]
    digest: bytes = b""


class AnswerSpool:
    """Keeps the last answers of each session, `max_bytes` of all sessions together.

    When room is short the oldest go first, but never the newest of a session. `keep` and `drop`
    run on the event loop; files are made and read in threads.
    """

    def __init__(self, folder: ScratchFolder, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._answers: OrderedDict[tuple[str, int], Answer] = OrderedDict()  # oldest first
        self._newest: dict[str, int] = {}
        self.size_bytes = 0

    def create(self) -> tuple[Path, BinaryIO]:
        """Return a new file for an answer, open for writing and reading."""
        path = self._folder.path / secrets.token_hex(16)
        return path, path.open("xb+")

    def keep(self, session_id: str, sequence: int, answer: Answer) -> None:
        """Keep an answer as the newest of its session."""
        self._answers[session_id, sequence] = answer
        self._newest[session_id] = sequence
        self.size_bytes += answer.size_bytes
        self._remove(session_id, sequence - KEPT_ANSWERS)
        for owner, number in list(self._answers):
            if self.size_bytes <= self._max_bytes:
                break
            if self._newest[owner] != number:
                self._remove(owner, number)

    def find(self, session_id: str, sequence: int) -> Answer | None:
        return self._answers.get((session_id, sequence))

    def drop(self, session_id: str) -> None:
        """Remove all answers of a session."""
        if session_id in self._newest:
            newest = self._newest.pop(session_id)
            for sequence in range(newest - KEPT_ANSWERS, newest + 1):
                self._remove(session_id, sequence)

    def _remove(self, session_id: str, sequence: int) -> None:
        answer = self._answers.pop((session_id, sequence), None)
        if answer is not None:
            self.size_bytes -= answer.size_bytes
            answer.path.unlink(missing_ok=True)
