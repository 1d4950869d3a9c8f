"""uvicorn's server: how it serves the app, and how it ends without failing a request."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from service.api.protocol.http import make_http_protocol
from service.api.protocol.socket import SocketProtocol
from service.settings import Settings

LAST_ANSWERS_S = 5.0  # for those who are told that their work is cut off
TICK_S = 0.05
log = logging.getLogger(__name__)


def make_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the app."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=make_http_protocol(settings),
        ws=SocketProtocol,
        ws_max_size=settings.socket_message_max_bytes,
        ws_ping_interval=settings.socket_ping_s,
        ws_ping_timeout=settings.socket_ping_s,
        ws_per_message_deflate=False,  # pictures do not shrink, and a bomb would grow
        log_config=None,
        access_log=False,
        server_header=False,
    )


class Server(uvicorn.Server):
    """Ends in steps after SIGTERM: readiness, then the port, then what is in progress.

    For `drain_delay_s` the port stays open, so that load balancers see readiness fail and send
    their requests elsewhere; new work is answered 503 (`on_drain` tells the app). Then requests
    have `drain_timeout_s` to end; those that do not are cancelled, which answers them 503.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        settings: Settings,
        *,
        on_drain: Callable[[], None],
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        """`on_start` is called with the port once it is open."""
        super().__init__(config)
        self._settings = settings
        self._on_drain = on_drain
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_drain()
        if signal.SIGINT not in self._captured_signals:  # nobody balances load on a terminal
            await asyncio.sleep(self._settings.drain_delay_s)
        await super().shutdown(sockets)

    async def _wait_tasks_to_complete(self) -> None:
        state = self.server_state
        if await self._wait(self._settings.drain_timeout_s):
            return
        log.warning("requests cut off", extra={"fields": {"requests": len(state.tasks)}})
        for task in list(state.tasks):
            task.cancel()
        await self._wait(LAST_ANSWERS_S)

    async def _wait(self, timeout_s: float) -> bool:
        """Wait until nothing is in progress; return False when it still is."""
        state, end_s = self.server_state, time.monotonic() + timeout_s
        while (state.connections or state.tasks) and not self.force_exit:
            if time.monotonic() >= end_s:
                return False
            await asyncio.sleep(TICK_S)
        return True
