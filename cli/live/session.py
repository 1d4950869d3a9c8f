"""A minimal session client for live frames, on the standard library alone."""

import email.parser
import email.policy
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

PROTOCOL = "matting.v1"
TIMEOUT_S = 60


NO_ACCESS = (401, 403)


class RequestFailed(Exception):
    """The service refused or did not answer; the text says what to do, `code` what kind it is."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class LiveSession:
    """An open session; `protocols` hold the ticket that admits one connection within a minute.

    Raises RequestFailed.
    """

    def __init__(self, server: str, key: str | None, options: Mapping[str, object]) -> None:
        self._headers = {"X-API-Key": key} if key else {}
        self._server = server.rstrip("/")
        body = json.dumps(options).encode()
        opened = json.loads(self._post("/v1/sessions", body)[1])
        self._path = f"/v1/sessions/{opened['id']}"
        self.protocols = [PROTOCOL, f"ticket.{opened['ticket']}"]

    @property
    def socket_url(self) -> str:
        return urlsplit(self._server)._replace(scheme=self._scheme).geturl() + self._path + "/live"

    @property
    def _scheme(self) -> str:
        return "wss" if self._server.startswith("https:") else "ws"

    def finish(self) -> bytes:
        """End the session and return its delayed last picture."""
        kind, content = self._post(f"{self._path}/finish", b"")
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
        (part,) = message.iter_parts()
        return bytes(part.get_payload(decode=True))

    def _post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """Return the content type and the body of the answer."""
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        request = urllib.request.Request(self._server + path, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return response.headers["Content-Type"], response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise read_refusal(error.code, error.read()) from None
        except urllib.error.URLError as error:
            why = getattr(error.reason, "strerror", None) or error.reason
            raise RequestFailed(
                f"no answer from {self._server}: {why}; see whether the address is right and it "
                "runs there"
            ) from None


def read_refusal(status: int, body: bytes) -> RequestFailed:
    """Return what an answer with an error says, in one line."""
    try:
        problem = json.loads(body)
    except ValueError:  # a proxy answers with something else
        problem = {}
    detail = problem.get("detail", f"the service answered {status}")
    hint = "--key or MATTE_KEY is the key" if status in NO_ACCESS else problem.get("hint")
    return RequestFailed(f"{detail}; {hint}" if hint else detail, problem.get("code"))
