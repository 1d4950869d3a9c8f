"""`python -m service`: start the server, or exit with one line that says why not."""

import argparse
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from service import __version__
from service.api.socket_protocol import SocketProtocol
from service.settings import Settings, SettingsError, describe_settings, load_settings

if TYPE_CHECKING:
    from service.inference.engine import OnnxEngine

EXIT_CANNOT_START = 3
OTHER_PORT = "choose another port with `make serve PORT=...` or MATTING_PORT"


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code (3: it cannot start).

    Settings come from `MATTING_*` variables; the two flags are for convenience.
    """
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="The matting service; settings are MATTING_* variables.",
    )
    parser.add_argument("--host", help="address to listen on (MATTING_HOST)")
    parser.add_argument("--port", type=int, help="TCP port (MATTING_PORT)")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--list-settings", action="store_true", help="print every setting")
    flags = vars(parser.parse_args(argv))
    if flags.pop("list_settings"):
        print(describe_settings())
        return 0
    try:
        settings = load_settings(
            **{name: value for name, value in flags.items() if value is not None}
        )
        has_own_folder = "data_dir" not in settings.model_fields_set
        if has_own_folder:
            settings = settings.model_copy(update={"data_dir": make_folder(settings.port)})
        check_address(settings.host, settings.port)
    except SettingsError as error:
        return _refuse(str(error))
    # Imported after the settings are known to be good: a typing mistake is answered at once.
    from service.app import create_app
    from service.inference.engine import OnnxEngine
    from service.inference.models import ModelError
    from service.inference.providers import DeviceError
    from service.jobs.schema import JobStoreBusy, JobStoreError
    from service.jobs.store import JobStore
    from service.log import configure_logging

    is_watched = sys.stderr.isatty()
    configure_logging(settings.log_level)
    if is_watched:  # the greeting says in one line what these say in several
        logging.getLogger("service.inference.providers").setLevel(logging.ERROR)
    tempfile.tempdir = str(settings.data_dir)  # uploads are spooled there too
    try:
        job_store = JobStore.open(settings.data_dir)
        engine = OnnxEngine(settings)
    except JobStoreBusy as error:
        return _refuse(f"{error}; {OTHER_PORT}" if has_own_folder else str(error))
    except (JobStoreError, ModelError, DeviceError) as error:
        return _refuse(str(error))
    app = create_app(settings, engine, job_store)
    config = make_config(app, settings)
    level = "WARNING" if is_watched else settings.log_level.upper()
    logging.getLogger("uvicorn.error").setLevel(level)
    # uvicorn raises the signal again once it has shut down: ending when told to is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = _Server(
        config,
        on_start=(lambda port: _greet(settings.host, port, engine)) if is_watched else None,
        on_shutdown=lambda: app.state.services.jobs.drain(),
    )
    server.run()
    return 0 if server.started else EXIT_CANNOT_START


def make_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the app."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="h11",  # bounds the size of headers; httptools does not
        ws=SocketProtocol,
        ws_max_size=settings.socket_message_max_bytes,
        ws_ping_interval=settings.socket_ping_s,
        ws_ping_timeout=settings.socket_ping_s,
        ws_per_message_deflate=False,  # pictures do not shrink, and a bomb would grow
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout_s),
    )


class _Server(uvicorn.Server):
    """Tells the port it listens on, and tells the app at once that it is ending.

    Streams of events would hold up the end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[int], None] | None,
        on_shutdown: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        await super().shutdown(sockets)


def make_folder(port: int) -> Path:
    """Return the data folder of a service whose operator names none; raises SettingsError.

    It depends on the port, so that a second service on the same machine has its own.
    """
    folder = Path(tempfile.gettempdir()) / f"matting-{port}"
    try:
        folder.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{folder}: {error.strerror}; name a folder with MATTING_DATA_DIR"
        ) from None
    return folder


def check_address(host: str, port: int) -> None:
    """Raise SettingsError when the address cannot be listened on."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise SettingsError(f"{host}, port {port}: {error.strerror}; {OTHER_PORT}") from None


def _greet(host: str, port: int, engine: "OnnxEngine") -> None:
    """Say in one line where the service is and what it runs."""
    device = "the CPU" if engine.provider.startswith("CPU") else "CUDA"
    note = f" ({engine.note})" if engine.note else ""
    shown = f"[{host}]" if ":" in host else host
    print(
        f"Ready: http://{shown}:{port}, API documents at /docs; model {engine.info.name} on "
        f"{device}{note}; Ctrl-C stops the service",
        file=sys.stderr,
    )


def _refuse(reason: str) -> int:
    print(f"cannot start: {reason}", file=sys.stderr)
    return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
