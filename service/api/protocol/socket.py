"""uvicorn's WebSocket protocol, hardened against slow, silent and hostile peers."""

import logging
import socket
from asyncio import BaseTransport
from typing import Any

from uvicorn._types import ASGISendEvent, WebSocketDisconnectEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

MAX_FRAGMENTS = 1024  # of one message: each costs memory beyond its bytes
LAST_BYTES_S = 10.0  # for what is still to be sent to a peer that is let go
READ_BYTES = 8192  # in one step of the loop: tiny frames take far longer than their bytes
UNSENT_BYTES = 64 * 1024  # what may wait in the kernel: frames that lie there grow old

# What uvicorn writes about sockets has paths with session ids in it, and at `debug` whole headers.
_quiet = logging.getLogger("uvicorn.error.sockets")
_quiet.setLevel(logging.WARNING)


class SocketProtocol(WebSocketsSansIOProtocol):
    """Bounds the memory that a peer can take, and the time that one can hold on to a connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _quiet
        self.conn.debug = False
        self._was_heard = False
        self._late_pong = b""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        setattr(transport, "max_size", READ_BYTES)  # noqa: B010 (asyncio's, and in no stub)
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
        )

    @property
    def refusal(self) -> Exception | None:
        """Why the head of the request was not read: the peer has heard nothing, and never would."""
        return None if self.handshake_initiated else self.conn.handshake_exc

    def data_received(self, data: bytes) -> None:
        self._was_heard = True
        super().data_received(data)

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        if self.close_sent:  # by the protocol itself, which the app need not know yet
            raise ClientDisconnected
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # Refused with an answer of HTTP, which is whole: else uvicorn logs an error of the app.
            self.handshake_complete = True

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # A peer that sends and never reads would fill the memory; the newest ping is enough.
            self._late_pong = b"".join(self.conn.data_to_send())

    def resume_writing(self) -> None:
        if self._late_pong:
            self.transport.write(self._late_pong)
            self._late_pong = b""
        super().resume_writing()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.POLICY_VIOLATION, f"over {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def handle_parser_exception(self) -> None:
        """Say why the message is refused, and let the rest of it come to nothing.

        Closing while bytes arrive resets the connection, and the peer would never read the reason.
        """
        if self.close_sent:
            return
        close = self.conn.close_sent
        assert close is not None
        event: WebSocketDisconnectEvent = {
            "type": "websocket.disconnect",
            "code": close.code,
            "reason": close.reason,
        }
        self.queue.put_nowait(event)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.close_sent = True
        self.close_timer = self.loop.call_later(LAST_BYTES_S, self.transport.close)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def send_keepalive_ping(self) -> None:
        self._was_heard = False
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        if self._was_heard:  # it is alive; its pong waits behind answers that it reads slowly
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
            self._end_soon()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._end_soon()

    def _end_soon(self) -> None:
        """End a closed connection though its peer reads nothing, and its last bytes wait."""
        self.loop.call_later(LAST_BYTES_S, self.transport.abort)
