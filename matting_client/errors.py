"""What can go wrong: one tree, with the members of the service's problem documents (RFC 9457)."""

from collections.abc import Mapping
from typing import Any


class MattingError(Exception):
    """The root of all errors of this package; the text is for people."""


class Unreachable(MattingError):
    """No whole answer came, after all tries: look at the address, the network, the service."""


class DamagedDownload(MattingError):
    """What was downloaded has not the SHA-256 that the service tells."""


class JobFailed(MattingError):
    """A job has ended without results; `state` says how, `problem` is its problem document."""

    def __init__(self, state: str, problem: Mapping[str, Any]) -> None:
        super().__init__(describe(problem) or f"the job is {state}")
        self.state = state
        self.problem = dict(problem)

    @property
    def code(self) -> str | None:
        """The kind of problem, as ProblemError has it; None for a job that was canceled."""
        return self.problem.get("code")


class ProblemError(MattingError):
    """An answer that is an error.

    `status` is HTTP's, `code` the slug of the problem, `detail` what was wrong, `hint` what to do;
    `limit` and `actual` are numbers in the unit that `detail` names. `errors` names options,
    `expected_sequence` the chunk that is due, `request_id` is the one in the service's log.
    """

    def __init__(
        self, status: int, problem: Mapping[str, Any], *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(describe(problem) or f"the service answered {status}")
        self.status = status
        self.retry_after_s = retry_after_s
        self.problem = dict(problem)
        self.code: str = problem.get("code", "")
        self.detail: str = problem.get("detail", "")
        self.hint: str | None = problem.get("hint")
        self.limit: float | None = problem.get("limit")
        self.actual: float | None = problem.get("actual")
        self.errors: list[dict[str, Any]] = problem.get("errors", [])
        self.expected_sequence: int | None = problem.get("expected_sequence")
        self.request_id: str | None = problem.get("instance")


class BadRequest(ProblemError):
    """The request is malformed (400 and other statuses of 4xx without a class of their own)."""


class AccessDenied(ProblemError):
    """The key is missing, unknown or not for this (401, 403)."""


class NotFound(ProblemError):
    """There is no such job, session, result or route, or it is another key's (404)."""


class Conflict(ProblemError):
    """The state of a job or session does not allow this (409)."""


class ChunkConflict(Conflict):
    """Another chunk had this number, or this chunk is not the next one (409)."""


class Gone(ProblemError):
    """It was here and is no longer (410)."""


class TooLarge(ProblemError):
    """The file has too many bytes (413)."""


class UnsupportedMedia(ProblemError):
    """This kind of file is not read (415)."""


class InvalidOption(ProblemError):
    """An option does not exist, has a wrong value or cannot be carried by the output (422)."""


class UnusableMedia(ProblemError):
    """The file cannot be decoded, or is over a limit on pixels, frames or seconds (422)."""


class Busy(ProblemError):
    """The service, or the quota of the key, has no room now; all tries were used up (429)."""


class Unavailable(ProblemError):
    """The service starts or shuts down; all tries were used up (503)."""


class ServiceFailed(ProblemError):
    """The service could not do what it should (500, 504, 507): not the request's fault."""


BY_CODE: dict[str, type[ProblemError]] = {
    "chunk-conflict": ChunkConflict,
    "chunk-out-of-order": ChunkConflict,
    "undecodable-media": UnusableMedia,
    "media-limit-exceeded": UnusableMedia,
    "media-too-complex": UnusableMedia,
}
BY_STATUS: dict[int, type[ProblemError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InvalidOption,
    429: Busy,
    503: Unavailable,
}


def make_error(
    status: int, problem: Mapping[str, Any], retry_after_s: float | None = None
) -> ProblemError:
    """Return the error of an answer; `problem` may be empty, where a proxy has answered."""
    fallback = ServiceFailed if status >= 500 else BadRequest
    kind = BY_CODE.get(problem.get("code", "")) or BY_STATUS.get(status, fallback)
    return kind(status, problem, retry_after_s=retry_after_s)


def describe(problem: Mapping[str, Any]) -> str:
    """Return what a problem document says to people."""
    return "; ".join(text for name in ("detail", "hint") if (text := problem.get(name)))
