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
        try:
            if scope["type"] == "websocket":
                refuse_query(scope)
            if is_protected:
                holder = self._admit(scope)
                scope["owner"] = None if holder is None else holder.owner
        except MattingError as error:
            await error_response(error, scope)(scope, receive, send)
            return
        if holder is None or not any(holder.quotas.values()):
            await self.app(scope, receive, send)
            return

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.keys.describe(holder)]
            await send(message)

        await self.app(scope, receive, send_with_limits)

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
