"""API keys, checked before a byte of the body is read."""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import error_response
from service.errors import BadRequest, Unauthorized
from service.metrics import Metrics

ANONYMOUS = "anonymous"
PROTECTED_PREFIXES = ("/v1/", "/v1.0/", "/api/")
MAX_KEY_BYTES = 512
# A browser cannot send a key with a socket; it offers `ticket.SECRET` as a sub-protocol instead.
TICKET_PREFIX = "ticket."


class Keys:
    """The accepted keys, kept as SHA-256 digests.

    Digests are compared, never keys: `hmac.compare_digest` refuses non-ASCII text, and equal
    lengths leave no timing to measure.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def find_owner(self, candidate: bytes | None) -> str | None:
        """Return the owner id of a key, `anonymous` when no keys are set, None when refused."""
        if not self._digests:
            return ANONYMOUS
        if not candidate or len(candidate) > MAX_KEY_BYTES:
            return None
        digest = hashlib.sha256(candidate).digest()
        found = None
        for known in self._digests:
            if hmac.compare_digest(digest, known):
                found = hashlib.sha256(b"owner:" + known).hexdigest()[:32]
        return found


def read_key(scope: Scope) -> bytes | None:
    """Return the key of `Authorization: Bearer` or `X-API-Key`; None when absent or ambiguous."""
    bearers = [value for name, value in scope["headers"] if name == b"authorization"]
    plain = [value for name, value in scope["headers"] if name == b"x-api-key"]
    if len(bearers) + len(plain) != 1:
        return None
    if plain:
        return bytes(plain[0]).strip()
    scheme, _, key = bytes(bearers[0]).partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None


def read_ticket(scope: Scope) -> str | None:
    """Return the ticket that a socket offers, None when there is none or more than one."""
    offered = [name for name in scope["subprotocols"] if name.startswith(TICKET_PREFIX)]
    return offered[0].removeprefix(TICKET_PREFIX) if len(offered) == 1 else None


class AuthLayer:
    """Refuses protected routes without a valid key; sets `scope["owner"]`.

    A socket may bring a ticket instead of a key: then it has no owner, and its route checks the
    ticket.
    """

    def __init__(self, app: ASGIApp, keys: Keys, metrics: Metrics) -> None:
        self.app = app
        self.keys = keys
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_socket = scope["type"] == "websocket"
        if is_socket and scope["query_string"]:
            scope["query_string"] = b""  # it may be a key, and the server logs it
            error = BadRequest(
                "a live connection takes no query parameters",
                hint="a key goes into a header, a ticket into the sub-protocols",
            )
            await error_response(error, scope)(scope, receive, send)
            return
        if scope["type"] != "lifespan" and scope["path"].startswith(PROTECTED_PREFIXES):
            key = read_key(scope)
            owner = self.keys.find_owner(key)
            has_ticket = is_socket and key is None and read_ticket(scope) is not None
            if owner is None and not has_ticket:
                self.metrics.requests_rejected.labels("unauthorized").inc()
                refusal = Unauthorized(
                    "no valid API key came with this request",
                    hint="send `Authorization: Bearer KEY` or `X-API-Key: KEY`, one of them once",
                    headers={"WWW-Authenticate": 'Bearer realm="matting"'},
                )
                await error_response(refusal, scope)(scope, receive, send)
                return
            scope["owner"] = owner
        await self.app(scope, receive, send)
