"""Keys of requests, checked before a byte of the body is read."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import access
from service.access import Access, Holder
from service.api.problems import error_response
from service.errors import BadRequest, MattingError, Unauthorized
from service.metrics import Metrics
from service.telemetry.record import annotate

PROTECTED_PREFIXES = ("/v1/", "/v1.0/", "/api/")
# What a path asks for, and in which unit its work is counted.
WORK: dict[str, tuple[access.Scope, access.Unit]] = {
    "/v1/image": ("image", "megapixels"),
    "/v1.0/": ("image", "megapixels"),
    "/api/": ("image", "megapixels"),
    "/v1/video": ("video", "video-seconds"),
    "/v1/jobs": ("video", "video-seconds"),
    "/v1/uploads": ("video", "video-seconds"),
    "/v1/sessions": ("session", "video-seconds"),
}
Headers = list[tuple[bytes, bytes]]
NO_STORE = (b"cache-control", b"no-store")
# A browser cannot send a key with a socket; it offers `ticket.SECRET` as a sub-protocol instead.
TICKET_PREFIX = "ticket."


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
    """Refuses protected routes without a good key; sets `scope["owner"]` and `RateLimit` headers.

    A socket may bring a ticket instead of a key: then it has no owner, and its route checks the
    ticket.
    """

    def __init__(self, app: ASGIApp, keys: Access, metrics: Metrics) -> None:
        self.app = app
        self.keys = keys
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_protected = scope["type"] != "lifespan" and scope["path"].startswith(PROTECTED_PREFIXES)
        holder = None

        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._add_headers(message["headers"], holder)
            await send(message)

        answer = send_private if is_protected and scope["type"] == "http" else send
        try:
            if scope["type"] == "websocket":
                refuse_query(scope)
            if is_protected:
                holder = self._admit(scope)
                scope["owner"] = None if holder is None else holder.owner
        except MattingError as error:
            await error_response(error, scope)(scope, receive, answer)
            return
        await self.app(scope, receive, answer)

    def _add_headers(self, headers: Headers, holder: Holder | None) -> Headers:
        """Return the headers of an answer for one key, which no cache may give to another."""
        added = [] if any(name == b"cache-control" for name, _ in headers) else [NO_STORE]
        if holder is not None and any(holder.quotas.values()):
            added += self.keys.describe(holder)
        return [*headers, *added]

    def _admit(self, scope: Scope) -> Holder | None:
        """Return who sends a request, None for a socket with a ticket.

        Raises Unauthorized, Forbidden, QuotaExceeded.
        """
        key = read_key(scope)
        holder = self.keys.find_holder(key)
        if holder is None:
            if scope["type"] == "websocket" and key is None and read_ticket(scope) is not None:
                return None
            self.metrics.requests_rejected.labels("unauthorized").inc()
            raise Unauthorized(
                "no valid API key came with this request",
                hint="send `Authorization: Bearer KEY` or `X-API-Key: KEY`, one of them once",
                headers={"WWW-Authenticate": 'Bearer realm="matting"'},
            )
        annotate(key=holder.name)
        for prefix, (name, unit) in WORK.items():
            if scope["path"].startswith(prefix):
                is_work = scope.get("method", "GET") in ("POST", "PUT")
                self.keys.check(holder, name, unit if is_work else None)
        return holder


def refuse_query(scope: Scope) -> None:
    """Raise BadRequest for a socket with a query: it may be a key, and the server logs it."""
    if scope["query_string"]:
        scope["query_string"] = b""
        raise BadRequest(
            "a live connection takes no query parameters",
            hint="a key goes into a header, a ticket into the sub-protocols",
        )
