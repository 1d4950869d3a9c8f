"""The error tree: every error that a client can see, with its status, slug and title."""

import errno
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

log = logging.getLogger(__name__)


class MattingError(Exception):
    """An error with a text for the user.

    `detail` says what was wrong, `hint` what to do; `limit` and `actual` are numbers in the unit
    that `detail` names, `expected_sequence` the chunk that is due. `retry_after_s` becomes
    `Retry-After`. `removebg_code` is remove.bg's code where that of the slug is too coarse.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "The service failed"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
        expected_sequence: int | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
        removebg_code: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.limit = limit
        self.actual = actual
        self.expected_sequence = expected_sequence
        self.errors = errors
        self.removebg_code = removebg_code
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later, though nothing in it changes."""
        return self.status in (429, 503, 504, 507)

    def describe(self) -> dict[str, Any]:
        """Return the members of the problem document, but for the request's own."""
        members = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.slug,
            "errors": self.errors,
            "hint": self.hint,
            "limit": self.limit,
            "actual": self.actual,
            "expected_sequence": self.expected_sequence,
        }
        return {name: value for name, value in members.items() if value is not None}


class BadRequest(MattingError):
    status, slug, title = 400, "bad-request", "The request is malformed"


class Unauthorized(MattingError):
    status, slug, title = 401, "unauthorized", "A valid API key is needed"


class Forbidden(MattingError):
    status, slug, title = 403, "forbidden", "The key does not allow this"


class NotFound(MattingError):
    status, slug, title = 404, "not-found", "There is nothing here"


class NotAcceptable(MattingError):
    status, slug, title = 406, "not-acceptable", "No acceptable format"


class RequestTimeout(MattingError):
    status, slug, title = 408, "request-timeout", "The body arrived too slowly"


class Conflict(MattingError):
    status, slug, title = 409, "conflict", "The state of this does not allow it"


class InProgress(MattingError):
    status, slug, title = 409, "in-progress", "The same request is still in progress"


class Gone(MattingError):
    status, slug, title = 410, "gone", "This is no longer here"


class ChunkConflict(MattingError):
    status, slug, title = 409, "chunk-conflict", "Another chunk had this number"


class ChunkOutOfOrder(MattingError):
    status, slug, title = 409, "chunk-out-of-order", "This chunk is not the next one"


class PayloadTooLarge(MattingError):
    status, slug, title = 413, "payload-too-large", "The body has too many bytes"


class UnsupportedVersion(MattingError):
    status, slug, title = 412, "unsupported-version", "This version of tus is not spoken here"


class UnsupportedMedia(MattingError):
    status, slug, title = 415, "unsupported-media", "This kind of file is not supported"


class RangeNotSatisfiable(MattingError):
    status, slug, title = 416, "range-not-satisfiable", "The file has no such range"


class MisdirectedRequest(MattingError):
    status, slug, title = 421, "misdirected-request", "The request is for another host"


class InvalidOption(MattingError):
    status, slug, title = 422, "invalid-option", "An option cannot be used"


class ImpossibleOutput(MattingError):
    status, slug, title = 422, "impossible-output", "This output cannot be made"


class UndecodableMedia(MattingError):
    status, slug, title = 422, "undecodable-media", "The file cannot be decoded"


class DecoderCrashed(UndecodableMedia):
    """The decoder child ended by itself: for a request the file is at fault, a job tries again."""


class FetchFailed(MattingError):
    status, slug, title = 422, "fetch-failed", "The URL cannot be fetched"


class IdempotencyKeyReused(MattingError):
    status, slug, title = 422, "idempotency-key-reused", "The key belongs to another request"


class UnknownForeground(MattingError):
    """Nobody is in the picture: an error for remove.bg's clients only."""

    status, slug, title = 422, "unknown-foreground", "Could not identify foreground in image."


class MediaLimitExceeded(MattingError):
    status, slug, title = 422, "media-limit-exceeded", "The media is over a limit"


class MediaTooComplex(MattingError):
    status, slug, title = 422, "media-too-complex", "The media takes too much work to decode"


class Locked(MattingError):
    status, slug, title = 423, "locked", "Another request has this"


class ChecksumMismatch(MattingError):
    status, slug, title = 460, "checksum-mismatch", "The bytes have another checksum"


class HeadersTooLarge(MattingError):
    status, slug, title = 431, "headers-too-large", "The headers have too many bytes"


class Overloaded(MattingError):
    status, slug, title = 429, "overloaded", "The service is busy"


class QuotaExceeded(MattingError):
    status, slug, title = 429, "quota-exceeded", "The quota of the key is used up"


class NotReady(MattingError):
    status, slug, title = 503, "not-ready", "The service is not ready"


class StorageUnavailable(NotReady):
    """The object storage of jobs does not answer, refuses, or has not kept what it was given."""


class Draining(MattingError):
    status, slug, title = 503, "draining", "The service is shutting down"


class DeadlineExceeded(MattingError):
    status, slug, title = 504, "deadline-exceeded", "The request took too long"


class InsufficientStorage(MattingError):
    status, slug, title = 507, "insufficient-storage", "There is no room on disk"


_DISK_ERRORS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full: its quota is used up",
    errno.EIO: "fails to read or write",
}


def find_disk_error(error: BaseException | None) -> InsufficientStorage | None:
    """Return what an OSError of a disk that is full or fails means; None for any other error."""
    state = _DISK_ERRORS.get(error.errno or 0) if isinstance(error, OSError) else None
    if state is None:
        return None
    return InsufficientStorage(f"the disk of the service {state}", retry_after_s=60)


@contextmanager
def translate_disk_errors() -> Iterator[None]:
    """Raise InsufficientStorage for a disk that is full or fails."""
    try:
        yield
    except OSError as error:
        if (known := find_disk_error(error)) is None:
            raise
        raise known from error


def refuse_draining() -> Draining:
    """Return the error of work that a process which is about to end does not take."""
    return Draining(
        "the service is shutting down",
        hint="send the request again: another process may take it",
        retry_after_s=1,
        headers={"Connection": "close"},
    )


def refuse_size(what: str, limit: int, actual: int) -> PayloadTooLarge:
    """Return the error for a body or file of `actual` bytes or more."""
    return PayloadTooLarge(
        f"the {what} has {actual} bytes or more, the limit is {limit}",
        hint="send a smaller file",
        limit=limit,
        actual=actual,
        headers={"Connection": "close"},  # the rest of the body may still be on its way
    )
